"""The DAGs that stand in the pages run."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from tests.local.server import VERSION, LocalDSS, new_uuid
from tests.running import LOGICAL_DATE, run, states, xcom
from tests.test_examples import load

pytestmark = pytest.mark.system

_DOCS = Path(__file__).parents[2] / "docs"
# What a page's placeholders stand for is filled in here.
_BUCKET, _DIRECTORY = "my-staging-bucket", "/data/experiment_42"

# Of another day than the other tests': the README's DAG has the same id, and would make the same bundle.
_DATE = LOGICAL_DATE + timedelta(days=3)


def _snippets() -> dict[str, str]:
    """Return the DAGs of the pages by their ids; that of events.md has a test of its own."""
    pages = [page.read_text() for page in sorted(_DOCS.glob("*.md")) if page.stem in {"howto", "index"}]
    found = [snippet for page in pages for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    return {re.findall(r'DAG\("(\w+)"', snippet)[0]: snippet for snippet in found}


@pytest.fixture
def uuids(dss: LocalDSS) -> dict[str, str]:
    """Return the uuid of a bundle, and of its file."""
    file, bundle = new_uuid(), new_uuid()
    dss.put_file(dss.stage(b"{}"), file)
    assert dss.put_bundle([dss.entry("a.json", file, indexed=True)], bundle).status_code == 201
    return {"file": file, "bundle": bundle}


def _run(name: str, dss: LocalDSS, directory: Path, **conf: Any) -> Any:
    snippet = _snippets()[name].replace(_BUCKET, dss.bucket).replace(_DIRECTORY, str(directory))
    if not AIRFLOW_V_3_0_PLUS:
        snippet = snippet.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    path = directory / f"{name}.py"
    path.write_text(re.sub(r"^(with DAG\(.*\)):$", r"\1 as dag:", snippet, flags=re.MULTILINE))
    return run(load(path), logical_date=_DATE, conf=conf)


def test_every_dag_of_a_page_is_run_here() -> None:
    """No DAG of the pages is left out of the tests below."""
    bundles = {"put_bundle", "patch_bundle", "delete_bundle", "checkout"}
    assert set(_snippets()) == {"ingest", "wait_for_file", "collection", *bundles}


@pytest.mark.usefixtures("airflow_db")
def test_the_first_page_makes_a_bundle(dss: LocalDSS, tmp_path: Path) -> None:
    """The DAG of the first page uploads the directory it is given."""
    (tmp_path / "a.json").write_text("{}")
    dag_run = _run("ingest", dss, tmp_path)
    assert states(dag_run) == {"upload": "success"}
    assert xcom(dag_run, "upload", "file_count") == 2  # and the DAG itself, which the test wrote there


@pytest.mark.usefixtures("airflow_db")
def test_a_file_is_waited_for(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    """The sensor finds a file that is there, and says how large it is."""
    dag_run = _run("wait_for_file", dss, tmp_path, uuid=uuids["file"])
    assert states(dag_run) == {"there": "success"}
    assert xcom(dag_run, "there", "byte_count") == 2


@pytest.mark.usefixtures("airflow_db")
def test_a_bundle_is_checked_out(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    """The files are in the bucket, where the task says."""
    dag_run = _run("checkout", dss, tmp_path, uuid=uuids["bundle"])
    assert states(dag_run) == {"checkout": "success"}
    location = xcom(dag_run, "checkout", "location")
    assert location.startswith(f"s3://{dss.bucket}/")
    key = f"{location.removeprefix(f's3://{dss.bucket}/').rstrip('/')}/a.json"
    assert dss.s3.get_object(Bucket=dss.bucket, Key=key)["Body"].read() == b"{}"


@pytest.mark.usefixtures("airflow_db")
def test_a_bundle_is_made_of_files(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    """The files that the run is told of are those of the bundle."""
    dag_run = _run("put_bundle", dss, tmp_path, files=[dss.entry("b.json", uuids["file"], indexed=True)])
    assert states(dag_run) == {"put_bundle": "success"}
    assert _names(dss, xcom(dag_run, "put_bundle", "uuid")) == ["b.json"]


@pytest.mark.usefixtures("airflow_db")
def test_a_bundle_is_changed(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    """The new version has the file that was there and the one that was added."""
    dag_run = _run("patch_bundle", dss, tmp_path, uuid=uuids["bundle"], source=dss.stage(b'{"note": 1}'))
    assert set(states(dag_run).values()) == {"success"}
    assert sorted(_names(dss, uuids["bundle"])) == ["a.json", "notes.json"]


@pytest.mark.usefixtures("airflow_db")
def test_a_bundle_is_deleted(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    """Afterwards the bundle is not there."""
    dag_run = _run("delete_bundle", dss, tmp_path, uuid=uuids["bundle"])
    assert states(dag_run) == {"delete": "success"}
    assert dss.call("GET", f"/bundles/{uuids['bundle']}", replica="aws").status_code == 404


@pytest.mark.usefixtures("airflow_db")
def test_a_collection_is_made_changed_and_deleted(dss: LocalDSS, uuids: dict[str, str], tmp_path: Path) -> None:
    """The collection has the link, then has not, and then is gone."""
    dag_run = _run("collection", dss, tmp_path, uuid=uuids["bundle"], version=VERSION)
    assert states(dag_run) == {"put": "success", "patch": "success", "delete": "success"}
    assert xcom(dag_run, "put", "item_count") == 1
    assert xcom(dag_run, "patch", "item_count") == 0
    assert xcom(dag_run, "delete", "deleted") is True


def _names(dss: LocalDSS, bundle: str) -> list[str]:
    answer = dss.call("GET", f"/bundles/{bundle}", replica="aws").json()
    return [file["name"] for file in answer["bundle"]["files"]]
