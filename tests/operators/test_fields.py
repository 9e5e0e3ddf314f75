"""Test the template fields and outputs of the operators."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from airflow_provider_hca.operators import dss as operators
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
ALL = [getattr(operators, name) for name in operators.__all__ if name.endswith("Operator")]


@pytest.mark.parametrize("operator", OPERATORS)
def test_template_fields_are_all_parameters(operator: type[DSSOperator]) -> None:
    parameters = {*inspect.signature(operator.__init__).parameters, "dss_conn_id"}
    assert set(operator.template_fields) == parameters - {"self", "kwargs", "multiple_outputs", "copy_timeout"}
    documented = operator.__doc__ or ""
    for name in operator.template_fields:
        assert "(templated)" in documented.split(f":param {name}:")[1].split(":param")[0], name


@pytest.mark.parametrize("operator", ALL)
def test_multiple_outputs_by_default(operator: type[DSSOperator]) -> None:
    options: dict[str, Any] = {
        name: "x"
        for name, parameter in inspect.signature(operator.__init__).parameters.items()
        if parameter.default is inspect.Parameter.empty and name not in {"self", "kwargs"}
    }
    assert operator(task_id="t", **options).multiple_outputs is True
    assert operator(task_id="t", multiple_outputs=False, **options).multiple_outputs is False
