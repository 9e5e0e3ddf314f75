"""What is public, and so has to be documented: classes, their parameters, the hook's methods."""

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
    found
    for found in (getattr(operators, name) for name in operators.__all__)
    if isinstance(found, type) and issubclass(found, BaseOperator)
]
SENSORS: list[type] = [cls for name, cls in vars(sensors).items() if name.startswith("DSS") and name.endswith("Sensor")]
CLASSES: list[type] = [*OPERATORS, *SENSORS, DSSWaitTrigger, DSSNewBundleTrigger, DSSHook]
HOOK_METHODS = sorted(
    name
    for name in vars(DSSHook)
    if not name.startswith("_") and callable(getattr(DSSHook, name)) and not hasattr(BaseHook, name)
)

_NO_ARGUMENTS = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def names(function: Callable[..., Any]) -> set[str]:
    """Return the names of the parameters of a function, but for `self` and what it only hands on."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name for each in parameters if each.kind not in _NO_ARGUMENTS} - {"self"}


def parameters_of(cls: type) -> set[str]:
    """Return what a class of this package takes besides what Airflow's own operators take."""
    return names(cls.__init__) - {"multiple_outputs", *names(BaseOperator.__init__)}  # type: ignore[misc]  # of a class
