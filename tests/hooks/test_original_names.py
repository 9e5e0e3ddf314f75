"""Who comes from the DSS's original Python bindings finds each call under its name."""

from __future__ import annotations

import inspect

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.hooks.dss import DSSHook

# What `hca.dss.DSSClient` of hca 7.0.1 has for the DSS v1 interface, one for each operation of its definition.
NAMES = (
    "delete_bundle",
    "delete_collection",
    "delete_subscription",
    "get_bundle",
    "get_bundles_all",
    "get_bundles_checkout",
    "get_collection",
    "get_collections",
    "get_event",
    "get_events",
    "get_file",
    "get_subscription",
    "get_subscriptions",
    "head_file",
    "patch_bundle",
    "patch_collection",
    "post_bundles_checkout",
    "post_search",
    "put_bundle",
    "put_collection",
    "put_file",
    "put_subscription",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_hook_has_each_call(name: str) -> None:
    """Each method of the original bindings is one of the hook's, documented, with the parameters of the client's."""
    method = getattr(DSSHook(), name)
    assert method.__name__ == name
    documented = inspect.getdoc(method)
    assert documented
    assert documented == inspect.getdoc(getattr(DSSAPI, name))
    parameters = [*inspect.signature(getattr(DSSAPI, name)).parameters][1:]
    assert [each for each in parameters if f":param {each}:" not in documented] == []


def test_there_is_nothing_else_by_their_kind_of_name() -> None:
    """No other method is named as if it were one of theirs."""
    verbs = ("get_", "put_", "post_", "patch_", "delete_", "head_")
    ours = {name for name in vars(DSSHook) if name.startswith(verbs)}
    of_airflow = {"get_conn", "get_ui_field_behaviour", "get_connection_form_widgets"}
    assert ours - set(NAMES) == of_airflow
