"""The metadata of a directory is validated before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.exceptions import InvalidMetadataError
from airflow_provider_hca.operators.dss import DSSUploadDirectoryOperator, DSSUploadTaskGroup
from airflow_provider_hca.utils.ui_links import PROGRESS_KEY
from tests.local.server import LocalDSS, new_uuid
from tests.running import execute, new_context, new_dag, requests_of, run, states, tries, xcom
from tests.validation.samples import CELL, SCHEMAS, bundle, document, encoded, write, write_schemas

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

INVALID = {"cell_1.json": document("type/biomaterial/1.0.0/cell", CELL, more=1), "note.txt": b""}


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    return write_schemas(tmp_path / "schemas")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle", bundle() | {"salt.txt": new_uuid().encode()})


def upload(dss: LocalDSS, directory: Path, **options: Any) -> DSSUploadDirectoryOperator:
    options = {"retries": 2, **options}
    return DSSUploadDirectoryOperator(task_id="up", directory=str(directory), staging_bucket=dss.bucket, **options)


def test_invalid_metadata_fails_before_anything_is_sent(dss: LocalDSS, directory: Path, schemas: Path) -> None:
    write(directory, INVALID)
    context, uuid = new_context(), new_uuid()
    with pytest.raises(AirflowFailException) as raised:
        execute(upload(dss, directory, validate=str(schemas), bundle_uuid=uuid), context)
    error = raised.value.__context__
    assert isinstance(error, InvalidMetadataError)
    assert {(file, path) for file, path, _ in error.findings} == {("cell_1.json", "$"), ("note.txt", "")}
    assert requests_of(dss, "PUT", "/") == requests_of(dss, "GET", f"/v1/bundles/{uuid}") == 0
    assert "Contents" not in dss.s3.list_objects_v2(Bucket=dss.bucket, Prefix=uuid)
    pushed = context["ti"].pushed
    report = pushed["validation"]
    assert (report["documents_valid"], report["documents_invalid"]) == (5, 1)
    assert [finding["file"] for finding in report["findings"]] == ["note.txt", "cell_1.json", "cell_1.json"]
    assert sorted(failure["names"][0] for failure in pushed[PROGRESS_KEY]["failures"]) == [
        "cell_1.json",
        "cell_1.json",
        "note.txt",
    ]


def test_valid_metadata_is_uploaded(dss: LocalDSS, directory: Path, schemas: Path) -> None:
    with new_dag("valid_metadata") as dag:
        upload(dss, directory, validate="{{ dag_run.conf['schemas'] }}")
    dag_run = run(dag, conf={"schemas": str(schemas)})
    assert states(dag_run) == {"up": "success"}
    assert xcom(dag_run, "up", "validation") == {
        "documents_valid": 5,
        "documents_invalid": 0,
        "documents_unchecked": 0,
        "findings": [],
        "findings_omitted": 0,
    }


def test_invalid_metadata_is_not_retried(dss: LocalDSS, directory: Path, schemas: Path) -> None:
    write(directory, INVALID)
    with new_dag("invalid_metadata") as dag:
        upload(dss, directory, validate=str(schemas))
    dag_run = run(dag)
    assert (states(dag_run), tries(dag_run, "up")) == ({"up": "failed"}, 1)
    assert xcom(dag_run, "up", "validation")["documents_invalid"] == 1


def test_missing_schema_may_be_a_warning(dss: LocalDSS, directory: Path, schemas: Path) -> None:
    (schemas / "type/process/1.0.0/process.json").unlink()
    context = new_context()
    options = {"validate": str(schemas), "missing_schemas": "warning"}
    assert execute(upload(dss, directory, **options), context)["created"]
    (finding,) = context["ti"].pushed["validation"]["findings"]
    assert (finding["file"], finding["level"]) == ("process_0.json", "warning")


def test_schemas_in_a_bucket_are_read_with_its_connection(
    dss: LocalDSS, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix, environment = new_uuid(), dss.about["env"]
    for name, schema in SCHEMAS.items():
        dss.s3.put_object(Bucket=dss.bucket, Key=f"{prefix}/{name}.json", Body=encoded(schema))
    keys = {"login": environment["AWS_ACCESS_KEY_ID"], "password": environment["AWS_SECRET_ACCESS_KEY"]}
    store = {"conn_type": "aws", **keys, "extra": {"endpoint_url": environment["AWS_ENDPOINT_URL_S3"]}}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(store))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    context = new_context()
    schemas = f"s3://{dss.bucket}/{prefix}"
    assert execute(upload(dss, directory, validate=schemas, aws_conn_id="store"), context)["created"]
    assert context["ti"].pushed["validation"]["documents_valid"] == 5


def test_xcom_of_many_findings_is_small(dss: LocalDSS, directory: Path, schemas: Path) -> None:
    write(directory, {f"{'x' * 200}/{number} ü": b"" for number in range(1_000)})
    context = new_context()
    with pytest.raises(AirflowFailException):
        execute(upload(dss, directory, validate=str(schemas)), context)
    for value in context["ti"].pushed.values():
        assert len(json.dumps(value)) < 48 * 1024
    assert context["ti"].pushed["validation"]["findings_omitted"] > 800


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validate": "/nowhere"}, "schemas must be a directory"),
        ({"missing_schemas": "ignore"}, "missing_schemas must be one of"),
    ],
)
def test_invalid_arguments_fail_the_task(
    dss: LocalDSS, directory: Path, schemas: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        execute(upload(dss, directory, **{"validate": str(schemas), **options}))


def test_upload_group_validates_in_its_plan(dss: LocalDSS, directory: Path, schemas: Path) -> None:
    write(directory, INVALID)
    with new_dag("invalid_metadata_of_group") as dag:
        DSSUploadTaskGroup(directory=str(directory), staging_bucket=dss.bucket, validate=str(schemas))
    dag_run = run(dag)
    assert states(dag_run)["upload.plan"] == "failed"
    assert xcom(dag_run, "upload.plan", "validation")["documents_invalid"] == 1
    assert requests_of(dss, "PUT", "/") == 0
    for name in INVALID:
        (directory / name).unlink()
    assert set(states(run(dag)).values()) == {"success"}
