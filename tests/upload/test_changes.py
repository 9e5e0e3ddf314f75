"""Comparing a plan with manifests as only another program, or a faulty server, sends them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.models import Bundle
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import DSSProtocolError
from airflow_provider_hca.upload.changes import check_created, compare
from airflow_provider_hca.upload.options import UploadOptions
from tests.local.server import VERSION, new_uuid
from tests.upload.support import plan, small, write_tree


@pytest.mark.parametrize("name", [{"name": ["a"]}, {"name": {"a": 1}}, {"name": None}, {"name": 5}, {}], ids=str)
def test_manifest_with_a_name_that_is_no_text_is_protocol_error(tmp_path: Path, name: dict[str, Any]) -> None:
    planned = plan(write_tree(tmp_path, small(1)))
    sums = {"sha256": "a" * 64, "s3_etag": "b" * 32, "size": 1, "content-type": "text/plain"}
    file = {"uuid": new_uuid(), "version": VERSION, "indexed": True, **sums, **name}
    bundle: Bundle = {"uuid": planned.bundle_uuid, "version": VERSION, "files": [file]}  # type: ignore[typeddict-item]
    with pytest.raises(DSSProtocolError, match="has a file whose metadata is missing or invalid"):
        check_created(planned, bundle)
    with RequestsTransport() as transport, pytest.raises(DSSProtocolError, match="missing or invalid"):
        compare(planned, DSSAPI("https://dss.example.org/v1"), transport, UploadOptions(), bundle=bundle)
