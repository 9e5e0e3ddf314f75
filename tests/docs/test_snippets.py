"""Run the DAGs in the pages."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from tests.local.server import VERSION, LocalDSS, new_uuid, sums
from tests.running import LOGICAL_DATE, connection, run, states, xcom
from tests.test_examples import load

pytestmark = pytest.mark.system

_DOCS = Path(__file__).parents[2] / "docs"
# Placeholders of the pages.
_BUCKET, _DIRECTORY = "my-staging-bucket", "/data/experiment_42"

# Another day than in other tests: the README's DAG has the same id and would create the same bundle.
_DATE = LOGICAL_DATE + timedelta(days=3)


def _snippets() -> dict[str, str]:
    """Return the DAGs of the pages by their ids; tests/test_events_page.py runs that of events.md."""
    pages = [(_DOCS / f"{name}.md").read_text() for name in ("howto", "index", "coming-from-hca", "cookbook")]
    snippets = [snippet for page in pages for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    return {name: snippet for snippet in snippets for name in re.findall(r'DAG\("(\w+)"', snippet)}


@pytest.fixture
def uuids(dss: LocalDSS) -> dict[str, str]:
    """Create a bundle of one file; return the uuids of both."""
    file, bundle = new_uuid(), new_uuid()
    dss.put_file(dss.stage(b"{}"), file)
    assert dss.put_bundle([dss.entry("a.json", file, indexed=True)], bundle).status_code == 201
    return {"file": file, "bundle": bundle}


def _run(name: str, dss: LocalDSS, directory: Path, *, days: int = 0, **conf: Any) -> Any:
    """Run the DAG of a page some days after the date of these tests."""
    snippet = _snippets()[name].replace(_BUCKET, dss.bucket).replace(_DIRECTORY, str(directory))
    if not AIRFLOW_V_3_0_PLUS:
        snippet = snippet.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    dags = directory.with_name(f"{directory.name}-dags")  # not in the directory, which is uploaded
    dags.mkdir(exist_ok=True)
    path = dags / f"{name}.py"
    path.write_text(re.sub(r"^(with DAG\(.*\)):$", r"\1 as dag:", snippet, flags=re.MULTILINE))
    return run(load(path), logical_date=_DATE + timedelta(days=days), conf=conf)


def test_every_snippet_has_a_test_below() -> None:
    bundles = {"put_bundle", "patch_bundle", "patch_directory", "delete_bundle", "checkout"}
    downloads = {"download_search", "download_mapped", "download_collection", "download_manifest"}
    recipes = {"upload_results", "upload_several", "skip_unchanged", "wait_both", "read_file", "list_versions"}
    others = {"ingest", "wait_for_file", "collection", "check_connection"}
    assert set(_snippets()) == {*bundles, *downloads, *recipes, *others}


@pytest.mark.usefixtures("airflow_db")
def test_snippet_ingest_uploads_directory(dss: LocalDSS, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    dag_run = _run("ingest", dss, tmp_path)
    assert states(dag_run) == {"upload": "success"}
    assert xcom(dag_run, "upload", "file_count") == 1


@pytest.mark.usefixtures("airflow_db")
def test_snippet_wait_for_file_returns_size(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    dag_run = _run("wait_for_file", dss, tmp_path, uuid=uuids["file"])
    assert states(dag_run) == {"there": "success"}
    assert xcom(dag_run, "there", "byte_count") == 2


@pytest.mark.usefixtures("airflow_db")
def test_snippet_checkout_returns_location_of_files(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    dag_run = _run("checkout", dss, tmp_path, uuid=uuids["bundle"])
    assert states(dag_run) == {"checkout": "success"}
    location = xcom(dag_run, "checkout", "location")
    assert location.startswith(f"s3://{dss.bucket}/")
    key = f"{location.removeprefix(f's3://{dss.bucket}/').rstrip('/')}/a.json"
    assert dss.s3.get_object(Bucket=dss.bucket, Key=key)["Body"].read() == b"{}"


@pytest.mark.usefixtures("airflow_db")
def test_snippet_download_search_downloads_its_bundles(dss: LocalDSS, tmp_path: Path) -> None:
    file, bundle, project = new_uuid(), new_uuid(), new_uuid()
    content = json.dumps({"project_core": {"project_short_name": project}}).encode()
    assert dss.put_file(dss.stage(content, kind="application/json"), file).status_code == 201
    assert dss.put_bundle([dss.entry("project_0.json", file, indexed=True)], bundle).status_code == 201
    dag_run = _run("download_search", dss, tmp_path, project=project)
    assert states(dag_run) == {"search": "success", "download": "success"}
    assert (tmp_path / f"{bundle}.{VERSION}" / "project_0.json").read_bytes() == content


@pytest.mark.usefixtures("airflow_db")
def test_snippet_download_mapped_downloads_parts_of_the_list(
    dss: LocalDSS, uuids: dict[str, str], tmp_path: Path
) -> None:
    dag_run = _run("download_mapped", dss, tmp_path, bundles=[uuids["bundle"]])
    assert states(dag_run) == {"divide": "success", "download": "success"}
    assert xcom(dag_run, "download", "downloaded", map_index=0) == 1


@pytest.mark.usefixtures("airflow_db")
def test_snippet_put_bundle_creates_bundle_of_files(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    dag_run = _run("put_bundle", dss, tmp_path, files=[dss.entry("b.json", uuids["file"], indexed=True)])
    assert states(dag_run) == {"put_bundle": "success"}
    assert _names(dss, xcom(dag_run, "put_bundle", "uuid")) == ["b.json"]


@pytest.mark.usefixtures("airflow_db")
def test_snippet_patch_bundle_adds_file(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    dag_run = _run("patch_bundle", dss, tmp_path, uuid=uuids["bundle"], source=dss.stage(b'{"note": 1}'))
    assert set(states(dag_run).values()) == {"success"}
    assert sorted(_names(dss, uuids["bundle"])) == ["a.json", "notes.json"]


@pytest.mark.usefixtures("airflow_db")
def test_snippet_patch_directory_adds_its_files(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{}")
    dag_run = _run("patch_directory", dss, tmp_path, uuid=uuids["bundle"])
    assert states(dag_run) == {"add_results": "success"}
    assert sorted(_names(dss, uuids["bundle"])) == ["a.json", "b.json"]


@pytest.mark.usefixtures("airflow_db")
def test_snippet_delete_bundle_deletes_bundle(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    dag_run = _run("delete_bundle", dss, tmp_path, uuid=uuids["bundle"])
    assert states(dag_run) == {"delete": "success"}
    assert dss.call("GET", f"/bundles/{uuids['bundle']}", replica="aws").status_code == 404


@pytest.mark.usefixtures("airflow_db")
def test_snippet_collection_puts_patches_deletes(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    dag_run = _run("collection", dss, tmp_path, uuid=uuids["bundle"], version=VERSION)
    assert states(dag_run) == {"put": "success", "patch": "success", "delete": "success"}
    assert xcom(dag_run, "put", "item_count") == 1
    assert xcom(dag_run, "patch", "item_count") == 0
    assert xcom(dag_run, "delete", "deleted") is True


@pytest.mark.usefixtures("airflow_db")
def test_snippet_download_collection_downloads_its_bundles(
    dss: LocalDSS, uuids: dict[str, str], tmp_path: Path
) -> None:
    uuid, link = new_uuid(), {"type": "bundle", "uuid": uuids["bundle"], "version": VERSION}
    body = {"name": "n", "description": "d", "details": {}, "contents": [link]}
    assert dss.call("PUT", "/collections", body, uuid=uuid, version=VERSION, replica="aws").status_code == 201
    assert states(_run("download_collection", dss, tmp_path, uuid=uuid)) == {"download": "success"}
    assert (tmp_path / f"{uuids['bundle']}.{VERSION}" / "a.json").read_bytes() == b"{}"


@pytest.mark.usefixtures("airflow_db")
def test_snippet_download_manifest_downloads_its_files_and_all_metadata(
    dss: LocalDSS, uuids: dict[str, str], tmp_path: Path
) -> None:
    files = [dss.entry("a.json", uuids["file"], indexed=True), dss.entry("[1].txt"), dss.entry("2.txt")]
    bundle, manifest = new_uuid(), tmp_path / "manifest.tsv"
    assert dss.put_bundle(files, bundle).status_code == 201
    manifest.write_text(f"bundle_uuid\tbundle_version\tfile_name\n{bundle}\t{VERSION}\t[1].txt\n")
    assert states(_run("download_manifest", dss, tmp_path, manifest=str(manifest))) == {"download": "success"}
    assert {path.name for path in (tmp_path / f"{bundle}.{VERSION}").iterdir()} == {"a.json", "[1].txt"}


@pytest.mark.usefixtures("airflow_db")
def test_snippet_upload_results_uploads_what_a_task_wrote(dss: LocalDSS, tmp_path: Path) -> None:
    dag_run = _run("upload_results", dss, tmp_path)
    assert states(dag_run) == {"analyse": "success", "upload": "success"}
    assert _names(dss, xcom(dag_run, "upload", "uuid")) == ["result.json"]


@pytest.mark.usefixtures("airflow_db")
def test_snippet_upload_several_creates_a_bundle_of_each(dss: LocalDSS, tmp_path: Path) -> None:
    for name in ("liver", "lung"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.json").write_text("{}")
    dag_run = _run("upload_several", dss, tmp_path)
    uuids = [xcom(dag_run, "upload", "uuid", map_index=index) for index in range(2)]
    assert [_names(dss, uuid) for uuid in uuids] == [["liver.json"], ["lung.json"]]


@pytest.mark.usefixtures("airflow_db")
def test_snippet_skip_unchanged_skips_the_second_run(dss: LocalDSS, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert states(_run("skip_unchanged", dss, tmp_path)) == {"upload": "success", "announce": "success"}
    dag_run = _run("skip_unchanged", dss, tmp_path, days=1)
    assert states(dag_run) == {"upload": "skipped", "announce": "skipped"}


@pytest.mark.usefixtures("airflow_db")
def test_snippet_wait_both_waits_for_two_replicas(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    file = new_uuid()
    assert dss.put_file(dss.stage_gcs(b"{}", sums(b"{}")), file).status_code == 201
    assert dss.put_bundle([dss.entry("a.json", file)], uuids["bundle"], replica="gcp").status_code == 201
    assert states(_run("wait_both", dss, tmp_path, uuid=uuids["bundle"])) == {"copied": "success"}


@pytest.mark.usefixtures("airflow_db")
def test_snippet_read_file_returns_its_content(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    assert xcom(_run("read_file", dss, tmp_path, uuid=uuids["bundle"]), "read") == {}


@pytest.mark.usefixtures("airflow_db")
def test_snippet_list_versions_returns_all(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    newer = "2025-01-31T235959.000001Z"
    entry = dss.entry("a.json", uuids["file"], indexed=True)
    assert dss.put_bundle([entry], uuids["bundle"], newer).status_code == 201
    assert xcom(_run("list_versions", dss, tmp_path, uuid=uuids["bundle"]), "list_versions") == [VERSION, newer]


@pytest.mark.usefixtures("airflow_db")
def test_snippet_check_connection_ends_the_run_early(
    dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert set(states(_run("check_connection", dss, tmp_path)).values()) == {"success"}
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, key_path=None, password="not.a.token"))
    failed = states(_run("check_connection", dss, tmp_path, days=1))
    assert failed["check"] == "failed"
    assert failed["upload.plan"] == "upstream_failed"


def _names(dss: LocalDSS, bundle: str) -> list[str]:
    answer = dss.call("GET", f"/bundles/{bundle}", replica="aws").json()
    return [file["name"] for file in answer["bundle"]["files"]]
