"""Public classes, parameters and methods, which the documentation has to cover."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook, BaseOperator

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators import dss as operators
from airflow_provider_hca.sensors import dss as sensors
from airflow_provider_hca.triggers.dss import DSSNewBundleTrigger, DSSWaitTrigger

OPERATORS: list[type] = [
    cls
    for cls in (getattr(operators, name) for name in operators.__all__)
    if isinstance(cls, type) and issubclass(cls, BaseOperator)
]
SENSORS: list[type] = [cls for name, cls in vars(sensors).items() if name.startswith("DSS") and name.endswith("Sensor")]
CLASSES: list[type] = [*OPERATORS, *SENSORS, DSSWaitTrigger, DSSNewBundleTrigger, DSSHook]
HOOK_METHODS = sorted(
    name
    for name in vars(DSSHook)
    if not name.startswith("_") and callable(getattr(DSSHook, name)) and not hasattr(BaseHook, name)
)

_VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def names(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's parameters, without `self`, `*args` and `**kwargs`."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind not in _VARIADIC} - {"self"}


def parameters_of(cls: type) -> set[str]:
    """Return the parameters of a class that Airflow's own operators do not have."""
    return names(cls.__init__) - {"multiple_outputs", *names(BaseOperator.__init__)}  # type: ignore[misc]  # of a class
