"""What the operators for changes and collections have in common: templated fields, documentation, serialisation."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from airflow_provider_hca.operators.dss import (
    DSSDeleteBundleOperator,
    DSSDeleteCollectionOperator,
    DSSOperator,
    DSSPatchBundleOperator,
    DSSPatchCollectionOperator,
    DSSPutCollectionOperator,
)

OPERATORS = [
    DSSDeleteBundleOperator,
    DSSDeleteCollectionOperator,
    DSSPatchBundleOperator,
    DSSPatchCollectionOperator,
    DSSPutCollectionOperator,
]


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_field_that_names_something_is_templated(operator: type[DSSOperator]) -> None:
    """All parameters are templated, the connection among them, and documented as such."""
    parameters = {*inspect.signature(operator.__init__).parameters, "dss_conn_id"}
    assert set(operator.template_fields) == parameters - {"self", "kwargs", "multiple_outputs"}
    documented = operator.__doc__ or ""
    for name in operator.template_fields:
        assert "(templated)" in documented.split(f":param {name}:")[1].split(":param")[0], name


@pytest.mark.parametrize("operator", OPERATORS)
def test_they_push_each_result(operator: type[DSSOperator]) -> None:
    """Each result is an XCom of its own unless the DAG says otherwise."""
    options: dict[str, Any] = {
        name: "x"
        for name, parameter in inspect.signature(operator.__init__).parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in {"self", "kwargs"}
    }
    assert operator(task_id="t", **options).multiple_outputs is True
    assert operator(task_id="t", multiple_outputs=False, **options).multiple_outputs is False
