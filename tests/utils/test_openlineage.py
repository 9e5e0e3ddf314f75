"""Test the events that Airflow's OpenLineage provider emits for tasks."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_hca.assets.dss import dss_host
from airflow_provider_hca.operators.dss import DSSPutBundleOperator, DSSUploadDirectoryOperator
from airflow_provider_hca.utils.openlineage import file_inputs
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import new_context

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Emitted:
    """Events and data of a run."""

    dss: LocalDSS
    directory: Path
    target: Path
    source: str
    events: list[dict[str, Any]]

    def all_of(self, task: str, dag: str = "openlineage") -> list[dict[str, Any]]:
        """Return the events of the success of a mapped task."""
        named = [event for event in self.events if event["job"]["name"] == f"{dag}.{task}"]
        return [event for event in named if event["eventType"] == "COMPLETE"]

    def of(self, task: str) -> dict[str, Any]:
        """Return the event of a task's success."""
        (event,) = self.all_of(task)
        return event


@pytest.fixture(scope="module")
def emitted(airflow_db: Path, shared_dss: LocalDSS, tmp_path_factory: pytest.TempPathFactory) -> Emitted:
    """Run the DAGs once, in a process that writes OpenLineage's events to a file."""
    shared_dss.control("DELETE", "faults")
    root = tmp_path_factory.mktemp("openlineage")
    directory = root / "cells"
    directory.mkdir()
    (directory / "a.json").write_text(json.dumps(new_uuid()))
    (directory / "b.txt").write_text("b")
    (directory / "large.bin").write_bytes(new_uuid().encode() * 4_000)
    source = shared_dss.stage(new_uuid().encode() * 4_000)
    log = root / "events.jsonl"
    environment = {
        **os.environ,
        **shared_dss.about["env"],
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(log), "append": True}),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        "AIRFLOW__OPENLINEAGE__DISABLED": "False",
        "PYTHONPATH": str(_ROOT),
    }
    arguments = [str(directory), str(root / "fetched"), shared_dss.bucket, source, shared_dss.stage(b"small")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.utils.openlineage_process", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=_ROOT,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return Emitted(shared_dss, directory, root / "fetched", source, events)


def short(dataset: dict[str, Any]) -> tuple[Any, ...]:
    """Return namespace, name, version, number of files and bytes of a dataset."""
    version = dataset["facets"].get("version", {}).get("datasetVersion")
    facets = dataset.get("inputFacets", {}) | dataset.get("outputFacets", {})
    statistics = facets.get("inputStatistics") or facets.get("outputStatistics") or {}
    return dataset["namespace"], dataset["name"], version, statistics.get("fileCount"), statistics.get("size")


def whole(emitted: Emitted) -> tuple[Any, ...]:
    """Return the expected dataset of the uploaded directory."""
    size = sum(path.stat().st_size for path in emitted.directory.iterdir())
    return f"file://{socket.gethostname()}", str(emitted.directory), None, 3, size


@pytest.mark.parametrize("task", ["upload", "group.bundle"])
@pytest.mark.system
def test_upload_reads_the_directory_and_writes_the_bundle(emitted: Emitted, task: str) -> None:
    event = emitted.of(task)
    (directory,), (bundle,) = event["inputs"], event["outputs"]
    namespace, name, version, *counts = short(bundle)
    assert short(directory) == whole(emitted)
    assert namespace == f"dss://{dss_host(emitted.dss.url)}"
    assert re.fullmatch(r"aws/[-0-9a-f]{36}\.2026-03-01T123000\.000000Z", name)
    assert version == "2026-03-01T123000.000000Z"
    assert counts == [3, whole(emitted)[-1]]


@pytest.mark.system
def test_plan_and_shards_read_the_directory_and_write_nothing(emitted: Emitted) -> None:
    plan, shards = emitted.of("group.plan"), emitted.all_of("group.shard")
    large = (emitted.directory / "large.bin").stat().st_size
    *which, _, size = whole(emitted)
    assert [short(dataset) for dataset in plan["inputs"]] == [whole(emitted)]
    read = sorted([*map(short, shard["inputs"])] for shard in shards)
    assert read == [[(*which, 1, large)], [(*which, 2, size - large)]]
    assert plan["outputs"] == shards[0]["outputs"] == shards[1]["outputs"] == []


@pytest.mark.system
def test_download_reads_the_bundle_and_writes_the_directory(emitted: Emitted) -> None:
    (written,) = emitted.of("upload")["outputs"]
    event = emitted.of("download")
    (bundle,), (directory,) = event["inputs"], event["outputs"]
    size = (emitted.target / "a.json").stat().st_size
    assert short(bundle) == (*short(written)[:3], 1, size)
    assert short(directory) == (f"file://{socket.gethostname()}", str(emitted.target), None, 1, size)


@pytest.mark.system
def test_put_file_put_bundle_and_patch_are_a_chain(emitted: Emitted) -> None:
    file, bundle, patch = (emitted.of(task) for task in ("file", "bundle", "patch"))
    bucket, _, key = emitted.source.removeprefix("s3://").partition("/")
    assert [short(dataset) for dataset in file["inputs"]] == [(f"s3://{bucket}", key, None, None, None)]
    (written,) = file["outputs"]
    assert re.fullmatch(r"aws/files/[-0-9a-f]{36}\.2026-03-01T123000\.000000Z", written["name"])
    assert [short(dataset) for dataset in bundle["inputs"]] == [short(written)]
    (put,), (patched,) = bundle["outputs"], patch["outputs"]
    assert short(put)[3:] == (1, None)
    assert [short(dataset)[:3] for dataset in patch["inputs"]] == [short(put)[:3]]
    assert patched["name"].startswith(put["name"].partition(".")[0])
    assert short(patched)[2] > short(put)[2]


@pytest.mark.system
def test_hook_calls_report_lineage(emitted: Emitted) -> None:
    (event,) = emitted.all_of("use_hook", "openlineage_hook")
    (read,), written = event["inputs"], event["outputs"]
    versions = sorted(dataset["name"].partition(".")[2] for dataset in written)
    assert read["namespace"] == written[0]["namespace"] == f"dss://{dss_host(emitted.dss.url)}"
    assert read["name"] in {dataset["name"] for dataset in written}
    assert {dataset["name"].partition(".")[0] for dataset in written} == {read["name"].partition(".")[0]}
    assert versions[0] == VERSION
    assert len(versions) == 2


@pytest.mark.system
def test_events_hold_no_secrets(emitted: Emitted) -> None:
    events = json.dumps(emitted.events)
    settings = json.loads(emitted.dss.about["connection"])
    secrets = [settings.get("password"), emitted.dss.about["env"]["AWS_SECRET_ACCESS_KEY"], "PRIVATE KEY", "Bearer"]
    assert len(events) > 1000
    assert not [secret for secret in filter(None, secrets) if secret in events]


def test_upload_reports_directory_and_bundle_to_openlineage(dss: LocalDSS, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    upload = DSSUploadDirectoryOperator(task_id="up", directory=str(tmp_path), staging_bucket=dss.bucket)
    result = upload.execute(new_context())
    facets = upload.get_openlineage_facets_on_complete(None)
    assert facets is not None
    (read,), (bundle,) = facets.inputs, facets.outputs
    assert (read.namespace, read.name) == (f"file://{socket.gethostname()}", str(tmp_path))
    assert (bundle.namespace, bundle.name) == (f"dss://{dss_host(dss.url)}", f"aws/{result['fqid']}")
    assert bundle.facets["version"].datasetVersion == result["version"]
    assert (bundle.outputFacets["outputStatistics"].fileCount, read.inputFacets["inputStatistics"].size) == (1, 2)


def test_failed_task_has_no_lineage() -> None:
    put = DSSPutBundleOperator(task_id="put", files=[])
    assert put.get_openlineage_facets_on_complete(None) is None


def test_more_than_100_files_are_not_listed() -> None:
    files = [{"uuid": new_uuid(), "version": VERSION} for _ in range(101)]
    assert len(file_inputs("https://dss.example.org/v1", "aws", files[1:])) == 100
    assert file_inputs("https://dss.example.org/v1", "aws", files) == []
