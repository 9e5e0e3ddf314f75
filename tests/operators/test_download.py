from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.exceptions import DSSAbortedError
from airflow_provider_hca.operators.dss import DSSDownloadBundleOperator, DSSUploadDirectoryOperator
from tests.download.server import OneBundle
from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.operators.stopping import join_worker_threads, killed_when
from tests.running import connection, ending, new_context, new_dag, next_try, requests_of, run, states, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

CONTENTS = {"project.json": b"{}", "reads/r1.gz": b"ACGT", "reads/r2.gz": b"TGCA" * 50_000}


@pytest.fixture
def bundle(dss: LocalDSS) -> str:
    uuid = new_uuid()
    files = []
    for name, content in CONTENTS.items():
        file = new_uuid()
        dss.put_file(dss.stage(content), file)
        dss.wait_for_head(file, 200)
        files.append(dss.entry(name, file, indexed=name.endswith(".json")))
    assert dss.put_bundle(files, uuid).status_code == 201
    return uuid


def operator(bundle: str, directory: Path | str, **options: Any) -> DSSDownloadBundleOperator:
    options = {"retry_delay": timedelta(0), **options}
    return DSSDownloadBundleOperator(task_id="download", bundle_uuid=bundle, directory=str(directory), **options)


def test_download_in_a_dag(bundle: str, tmp_path: Path) -> None:
    with new_dag("download") as dag:
        operator("{{ params.bundle }}", tmp_path / "{{ params.bundle }}", params={"bundle": bundle})
    dag_run = run(dag)
    result = xcom(dag_run, "download")
    target = tmp_path / bundle
    size = sum(map(len, CONTENTS.values()))
    assert states(dag_run) == {"download": "success"}
    assert {name: (target / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert xcom(dag_run, "download", "directory") == str(target)
    assert result == {
        "uuid": bundle,
        "version": VERSION,
        "fqid": f"{bundle}.{VERSION}",
        "replica": "aws",
        "directory": str(target),
        "file_count": 3,
        "byte_count": size,
        "statistics": {"downloaded_file_count": 3, "downloaded_byte_count": size},
    }


def test_download_is_not_based_on_a_false_manifest(dss: LocalDSS, bundle: str, tmp_path: Path) -> None:
    """A failed PATCH leaves its additions in the cache of a process, as duplicates."""
    dss.control("POST", "processes", {"count": 2, "order": [0, 0, 1]})
    add = {"add_files": [dss.entry(name) for name in CONTENTS]}
    assert dss.call("PATCH", f"/bundles/{bundle}", add, replica="aws", version=VERSION).status_code == 400
    result = operator(bundle, tmp_path, bundle_version=VERSION).execute(new_context())
    assert (result["file_count"], result["byte_count"]) == (3, sum(map(len, CONTENTS.values())))
    assert {name: (tmp_path / name).read_bytes() for name in CONTENTS} == CONTENTS


def test_download_of_an_upload_is_identical(dss: LocalDSS, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    contents = {f"d{number % 7}/{number}.json": b"%d" % number for number in range(50)}
    contents["large.bin"] = new_uuid().encode() * 250_000
    for name, content in contents.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    upload = DSSUploadDirectoryOperator(task_id="up", directory=str(source), staging_bucket=dss.bucket)
    up = upload.execute(new_context())
    down = operator(up["uuid"], target, bundle_version=up["version"]).execute(new_context())
    downloaded = {path.relative_to(target).as_posix(): path for path in target.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in downloaded.items()} == contents
    assert (down["fqid"], down["byte_count"]) == (up["fqid"], up["byte_count"])


@pytest.mark.parametrize("name", ["../../x", "/x", "a/../../x"])
def test_names_outside_the_directory_fail_without_retries(
    dss: LocalDSS, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OneBundle() as served:
        served.add("good")
        served.add(name)
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, host=served.url))
        assert ending(operator(served.uuid, tmp_path / "outside" / "target")) == "failed"
    assert list(tmp_path.rglob("*")) == []


def test_patterns_are_templated(bundle: str, tmp_path: Path) -> None:
    chosen = {"data_files": ["*{{ params.read }}*"], "metadata_files": []}
    download = operator(bundle, tmp_path / "t", bundle_version=VERSION, **chosen)
    context = new_context(params={"read": "r1"})
    download.render_template_fields(context)
    assert download.execute(context)["file_count"] == 1
    assert [path.name for path in (tmp_path / "t").rglob("*") if path.is_file()] == ["r1.gz"]


def test_retry_downloads_only_the_missing_file(
    dss: LocalDSS, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_attempts=1))
    # Afterwards the DSS serves each file at once; otherwise the last file could be requested before the others.
    operator(bundle, tmp_path / "before").execute(new_context())
    files = dss.call("GET", f"/bundles/{bundle}", replica="aws").json()["bundle"]["files"]
    dss.control("POST", "faults", {"method": "GET", "path": files[-1]["uuid"], "action": "status", "status": 503})
    download, context = operator(bundle, tmp_path / "t", max_workers=1), new_context()
    assert ending(download, context) == "up_for_retry"
    assert download.execute(next_try(context))["statistics"]["downloaded_file_count"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundle": "x"}, "bundle uuid must be a UUID"),
        ({"bundle": "0a1b2c3d-0000-4000-8000-00000000000f"}, "404"),
        ({"bundle_version": "1"}, "bundle version must be a DSS_VERSION"),
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"data_files": "*.gz"}, "data_files must be a list"),
        ({"metadata_files": None}, "metadata_files must be a list"),
        ({"directory": ""}, "directory is empty"),
        ({"max_workers": 0}, "max_workers must be at least 1"),
    ],
)
def test_invalid_arguments_fail_without_retries(
    bundle: str, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        operator(**{"bundle": bundle, "directory": tmp_path / "t", **change}).execute(new_context())
    assert not (tmp_path / "t").exists()


def test_on_kill_stops_the_download(dss: LocalDSS, tmp_path: Path) -> None:
    uuid, file = new_uuid(), dss.new_file()
    files = [dss.entry(f"{number}", file) for number in range(400)]
    assert dss.put_bundle(files, uuid).status_code == 201
    fault = {"method": "GET", "path": "/v1/files/", "action": "slow", "seconds": 0.3, "times": 999}
    dss.control("POST", "faults", fault)
    download = operator(uuid, tmp_path / "t", max_workers=2)
    with killed_when(download, lambda: requests_of(dss, "GET", "/v1/files/")), pytest.raises(DSSAbortedError):
        download.execute(new_context())
    join_worker_threads()
    assert 0 < requests_of(dss, "GET", "/v1/files/") < 400
