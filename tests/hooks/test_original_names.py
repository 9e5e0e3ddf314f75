from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.client import DSSClient
from airflow_provider_hca.hooks.dss import DSSHook

# Operations of the DSS v1 interface, as `hca.dss.DSSClient` of hca 7.0.1 names them.
ORIGINAL_NAMES = {
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
}
COMBINED = {"wait_for_file", "find_bundle", "change_bundle", "change_collection"}


def test_client_has_all_original_names_and_no_similar_ones() -> None:
    own = {name for name in vars(DSSClient) if not name.startswith("_")} - {"run", "close"}
    assert own == ORIGINAL_NAMES | COMBINED


def test_hook_has_no_similar_names() -> None:
    own = {name for name in vars(DSSHook) if name.startswith(("get_", "put_", "post_", "patch_", "delete_", "head_"))}
    assert own - ORIGINAL_NAMES == {"get_conn", "get_ui_field_behaviour", "get_connection_form_widgets"}


@pytest.mark.parametrize("name", sorted(ORIGINAL_NAMES | COMBINED))
def test_signatures_of_hook_client_and_api_are_equal(name: str) -> None:
    """The hook and the client return the result of the API's call."""
    signatures = [inspect.signature(getattr(cls, name)) for cls in (DSSHook, DSSClient, DSSAPI)]
    hook, client, api = ([*signature.parameters.values()] for signature in signatures)
    assert hook == client == api
    returned = signatures[1].return_annotation
    assert [signature.return_annotation for signature in signatures] == [returned, returned, f"Call[{returned}]"]


@pytest.mark.parametrize("name", sorted(ORIGINAL_NAMES | COMBINED))
def test_summaries_of_hook_client_and_api_are_equal(name: str) -> None:
    hook, client, api = (_documentation(getattr(cls, name)) for cls in (DSSHook, DSSClient, DSSAPI))
    summary = client.partition("\n")[0]
    assert api == summary
    assert hook == f"{summary}\n\nSee `DSSClient.{name}`."


@pytest.mark.parametrize("name", sorted(ORIGINAL_NAMES | COMBINED))
def test_client_documents_all_parameters(name: str) -> None:
    method = getattr(DSSClient, name)
    parameters = [*inspect.signature(method).parameters][1:]
    assert re.findall(r":param (\w+): \S", _documentation(method)) == parameters


def _documentation(method: Callable[..., Any]) -> str:
    return inspect.getdoc(method) or ""
