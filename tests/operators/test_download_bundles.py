"""Test the operator that downloads several bundles."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, task

from airflow_provider_hca.exceptions import DSSAbortedError, DSSError
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import DSSDownloadBundlesOperator
from airflow_provider_hca.utils.ui_links import REPORT_KEY
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.operators.stopping import join_worker_threads, killed_when
from tests.running import connection, ending, new_context, new_dag, next_try, requests_of, run, states, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")


def put(dss: LocalDSS, content: bytes = b"{}") -> str:
    """Create a bundle of one indexed and one other file."""
    uuid = new_uuid()
    files = [dss.entry("m.json", dss.new_file(content), indexed=True), dss.entry("a.gz", dss.new_file())]
    assert dss.put_bundle(files, uuid).status_code == 201
    return uuid


def fqid(uuid: str) -> str:
    return f"{uuid}.{VERSION}"


def operator(directory: Path | str, **options: Any) -> DSSDownloadBundlesOperator:
    options = {"retry_delay": timedelta(0), "retries": 1, **options}
    return DSSDownloadBundlesOperator(task_id="download", directory=str(directory), **options)


def names(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_download_of_what_another_task_found(dss: LocalDSS, tmp_path: Path) -> None:
    uuids = sorted(put(dss) for _ in range(3))

    @task
    def find() -> list[dict[str, str]]:
        return [{"bundle_fqid": fqid(uuid), "bundle_url": ""} for uuid in uuids]

    with new_dag("download_found", params={"target": str(tmp_path)}) as dag:
        operator("{{ params.target }}", bundles=find(), data_files=["*{{ 'gz' }}"], metadata_files=[])
    dag_run = run(dag)
    assert states(dag_run) == {"find": "success", "download": "success"}
    assert names(tmp_path) == [f"{fqid(uuid)}/a.gz" for uuid in uuids]
    size = 3 * len(b"content")
    assert xcom(dag_run, "download") == {
        "directory": str(tmp_path),
        "replica": "aws",
        "downloaded": 3,
        "unchanged": 0,
        "failed": 0,
        "file_count": 3,
        "byte_count": size,
        "causes": [],
        "statistics": {"downloaded_file_count": 3, "downloaded_byte_count": size},
    }
    assert xcom(dag_run, "download", "downloaded") == 3


def test_mapped_over_lists(dss: LocalDSS, tmp_path: Path) -> None:
    uuids = sorted(put(dss) for _ in range(3))
    with new_dag("download_mapped") as dag:
        DSSDownloadBundlesOperator.partial(task_id="download", directory=str(tmp_path)).expand(
            bundles=[uuids[:2], uuids[2:]]
        )
    dag_run = run(dag)
    assert states(dag_run) == {"download": "success"}
    assert [xcom(dag_run, "download", "downloaded", map_index=number) for number in range(2)] == [2, 1]
    assert len(names(tmp_path)) == 6


def test_download_of_a_collection(dss: LocalDSS, tmp_path: Path) -> None:
    bundle, file, collection = put(dss), dss.new_file(b"text"), new_uuid()
    links = [{"type": "bundle", "uuid": bundle, "version": VERSION}, {"type": "file", "uuid": file, "version": VERSION}]
    with DSSHook() as hook:
        hook.put_collection(collection, VERSION, replica="aws", name="n", description="d", contents=links)
    result = operator(tmp_path, collection_uuid=collection).execute(new_context())
    assert (result["downloaded"], result["file_count"]) == (2, 3)
    assert names(tmp_path) == sorted([f"{fqid(bundle)}/a.gz", f"{fqid(bundle)}/m.json", f"files/{fqid(file)}"])


def test_download_of_a_manifest(dss: LocalDSS, tmp_path: Path) -> None:
    bundle = put(dss)
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text(f"bundle_uuid\tbundle_version\tfile_name\n{bundle}\t{VERSION}\ta.gz\n")
    result = operator(tmp_path / "t", manifest=str(manifest)).execute(new_context())
    assert (result["downloaded"], result["file_count"]) == (1, 2)


def test_permanent_failure_above_max_failed_fails_without_retries(dss: LocalDSS, tmp_path: Path) -> None:
    download, context = operator(tmp_path, bundles=[put(dss), new_uuid()]), new_context()
    with pytest.raises(AirflowFailException, match=r"1 of 2 bundles failed, such as .*404"):
        download.execute(context)
    report = context["ti"].pushed[REPORT_KEY]
    assert (report["downloaded"], report["failed"], report["causes"][0]["count"]) == (1, 1, 1)


@pytest.mark.parametrize("max_failed", [1, 0.5])
def test_failures_up_to_max_failed_are_a_success(dss: LocalDSS, tmp_path: Path, max_failed: float) -> None:
    download = operator(tmp_path, bundles=[put(dss), new_uuid()], max_failed=max_failed)
    result = download.execute(new_context())
    assert (result["downloaded"], result["failed"]) == (1, 1)


@pytest.mark.parametrize("max_failed", [0, 1])
def test_retry_downloads_only_what_is_missing(
    dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_failed: int
) -> None:
    """Also if as many bundles may fail: the reason may pass."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    uuids = [put(dss), put(dss)]
    operator(tmp_path / "before", bundles=uuids).execute(new_context())  # the DSS serves each file at once then
    file = dss.call("GET", f"/bundles/{uuids[1]}", replica="aws").json()["bundle"]["files"][1]["uuid"]
    dss.control("POST", "faults", {"method": "GET", "path": file, "action": "status", "status": 503})
    context = new_context()
    context["ti"].max_tries = 1
    download = operator(tmp_path / "t", bundles=uuids, max_failed=max_failed, max_workers=1)
    with pytest.raises(DSSError, match=rf"1 of 2 bundles failed, such as {fqid(uuids[1])}: .*503"):
        download.execute(context)
    result = download.execute(next_try(context))
    assert (result["downloaded"], result["unchanged"], result["file_count"]) == (1, 1, 4)
    assert result["statistics"]["downloaded_file_count"] == 1


def test_last_try_may_have_temporary_failures(dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    uuid = put(dss)
    fault = {"method": "GET", "path": f"/bundles/{uuid}", "action": "status", "status": 503, "times": 9}
    dss.control("POST", "faults", fault)
    assert ending(operator(tmp_path, bundles=[uuid])) == "up_for_retry"
    assert operator(tmp_path, bundles=[uuid], max_failed=1.0).execute(new_context())["failed"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundles": None}, "give one of bundles, collection_uuid and manifest"),
        ({"manifest": "m.tsv"}, "give one of bundles, collection_uuid and manifest"),
        ({"bundles": "all"}, "bundles must be a list"),
        ({"bundles": ["x"]}, "bundles, item 1: bundle uuid must be a UUID"),
        ({"bundles": None, "collection_uuid": "x"}, "collection uuid must be a UUID"),
        ({"bundles": None, "collection_uuid": new_uuid()}, "404"),
        ({"bundles": None, "manifest": "/nowhere/m.tsv"}, "cannot be read"),
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"data_files": "*.gz"}, "data_files must be a list"),
        ({"directory": ""}, "directory is empty"),
        ({"max_workers": 0}, "max_workers must be at least 1"),
    ],
)
def test_invalid_arguments_fail_without_retries(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    options = {"directory": tmp_path / "t", "bundles": [], **change}
    with pytest.raises(AirflowFailException, match=message):
        operator(**options).execute(new_context())
    assert not (tmp_path / "t").exists()


def test_on_kill_stops_the_download(dss: LocalDSS, tmp_path: Path) -> None:
    uuids = [put(dss) for _ in range(20)]
    fault = {"method": "GET", "path": "/v1/files/", "action": "slow", "seconds": 0.3, "times": 999}
    dss.control("POST", "faults", fault)
    download = operator(tmp_path, bundles=uuids, max_workers=2)
    with killed_when(download, lambda: requests_of(dss, "GET", "/v1/files/")), pytest.raises(DSSAbortedError):
        download.execute(new_context())
    join_worker_threads()
    assert 0 < requests_of(dss, "GET", "/v1/files/") < 40


def test_lineage_has_the_bundles_and_the_directory(dss: LocalDSS, tmp_path: Path) -> None:
    uuid = put(dss)
    download = operator(tmp_path, bundles=[uuid, new_uuid()], max_failed=1)
    download.execute(new_context())
    facets = download.get_openlineage_facets_on_complete(None)
    assert facets is not None
    assert [read.name for read in facets.inputs] == [f"aws/{fqid(uuid)}"]
    assert [written.name for written in facets.outputs] == [str(tmp_path)]
