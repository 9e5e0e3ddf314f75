from __future__ import annotations

import copy
import json
import pickle
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, Context

from airflow_provider_hca.client.identifiers import derive_uuid
from airflow_provider_hca.exceptions import DSSAbortedError, DSSCopyError
from airflow_provider_hca.operators.dss import (
    DSSOperator,
    DSSPutBundleOperator,
    DSSPutFileOperator,
    DSSUploadDirectoryOperator,
)
from tests.local.server import LocalDSS, new_uuid
from tests.operators.stopping import accept_files, accepted_files, join_worker_threads, killed_when
from tests.running import (
    LOGICAL_DATE,
    connection,
    ending,
    new_context,
    new_dag,
    next_try,
    requests_of,
    run,
    states,
    tries,
    xcom,
)

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

BUNDLE = "1b9d8b6e-4c2a-4a7b-9f5e-0a1b2c3d4e5f"
VERSION = "2026-03-01T123000.000000Z"


def large() -> bytes:
    """Return content that is new to the DSS and that it copies asynchronously."""
    return (new_uuid().encode() * 5_000)[:150_000]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "cells"
    (root / "reads").mkdir(parents=True)
    (root / "project.json").write_text('{"name": "cells"}')
    (root / "reads" / "r1.fastq.gz").write_bytes(b"ACGT" * 100)
    (root / "large.bin").write_bytes(large())
    (root / ".DS_Store").write_bytes(b"junk")
    return root


def upload(directory: Path, bucket: str, **options: Any) -> DSSUploadDirectoryOperator:
    options = {"retries": 0, "retry_delay": timedelta(0), **options}
    return DSSUploadDirectoryOperator(task_id="upload", directory=str(directory), staging_bucket=bucket, **options)


def bundle_in(dss: LocalDSS, uuid: str, **query: str) -> dict[str, Any]:
    answer = dss.call("GET", f"/bundles/{uuid}", replica="aws", **query)
    assert answer.status_code == 200, answer.text
    bundle: dict[str, Any] = answer.json()["bundle"]
    return bundle


def test_upload_in_a_dag_creates_a_bundle(dss: LocalDSS, directory: Path) -> None:
    with new_dag("upload_in_a_dag") as dag:
        upload(directory, dss.bucket, content_types={"*.gz": "application/gzip; dcp-type=data"}, creator_uid="7")
    dag_run = run(dag, logical_date=LOGICAL_DATE)
    result = xcom(dag_run, "upload")
    bundle = bundle_in(dss, result["uuid"], version=result["version"])
    files = {file["name"]: file for file in bundle["files"]}
    assert states(dag_run) == {"upload": "success"}
    assert list(files) == ["large.bin", "project.json", "reads/r1.fastq.gz"]
    assert [file["indexed"] for file in files.values()] == [False, True, False]
    assert files["reads/r1.fastq.gz"]["content-type"] == "application/gzip; dcp-type=data"
    assert bundle["creator_uid"] == 7
    assert xcom(dag_run, "upload", "uuid") == result["uuid"]
    statistics = result.pop("statistics")
    assert xcom(dag_run, "upload", "statistics") == statistics
    assert set(statistics.pop("seconds")) == {"stage", "register", "copy", "bundle"}
    assert {name for name, _ in statistics.pop("slowest_files")} == set(files)
    assert statistics == {
        "added_file_count": 3,
        "changed_file_count": 0,
        "removed_file_count": 0,
        "unchanged_file_count": 0,
        "staged_file_count": 3,
        "staged_byte_count": 150_000 + 400 + 17,
        "skipped_file_count": 0,
        "registered_file_count": 3,
        "copied_file_count": 1,
        "retry_count": 0,
    }
    assert result == {
        "uuid": result["uuid"],
        "version": VERSION,
        "fqid": f"{result['uuid']}.{VERSION}",
        "replica": "aws",
        "file_count": 3,
        "byte_count": 150_000 + 400 + 17,
        "created": True,
    }


def test_upload_of_the_same_run_changes_nothing(dss: LocalDSS, directory: Path) -> None:
    context = new_context()
    first = upload(directory, dss.bucket).execute(context)
    before = dss.control("GET", "store")
    context["dag_run"].run_id = "manual__2"  # `airflow dags test` uses a new id for the same logical date
    second = upload(directory, dss.bucket).execute(context)
    assert dss.control("GET", "store") == before
    assert (second["fqid"], second["created"]) == (first["fqid"], False)


def test_upload_of_another_run_creates_another_bundle_or_version(dss: LocalDSS, directory: Path) -> None:
    contexts = [new_context(dag_id="upload_runs", logical_date=LOGICAL_DATE + timedelta(days=day)) for day in (0, 1)]
    one, two = (upload(directory, dss.bucket).execute(context) for context in contexts)
    given = new_uuid()
    three = upload(directory, dss.bucket, bundle_uuid=given.upper()).execute(contexts[0])
    (directory / "new.json").write_text("{}")
    four = upload(directory, dss.bucket, bundle_uuid=given.upper()).execute(contexts[1])
    assert one["uuid"] != two["uuid"]
    assert three["uuid"] == four["uuid"] == given
    assert three["version"] < four["version"]


def test_upload_retry_registers_only_missing_files(
    dss: LocalDSS, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=0))
    bundle = new_uuid()
    broken = derive_uuid(bundle, "reads/r1.fastq.gz")
    dss.control("POST", "faults", {"method": "PUT", "path": f"/files/{broken}", "action": "status", "status": 503})
    with new_dag("upload_retry") as dag:
        upload(directory, dss.bucket, bundle_uuid=bundle, bundle_version=VERSION, retries=1)
    dag_run = run(dag)
    result = xcom(dag_run, "upload")
    # By UUID: requests of an upload that another test stopped may arrive late.
    own = {derive_uuid(bundle, path.relative_to(directory).as_posix()) for path in directory.rglob("*")}
    puts = [request for request in dss.control("GET", "requests") if _is_put_file(request)]
    # By path: a retry repeats the PUT of a file that the DSS is still copying.
    registered = {put["path"] for put in puts if put["status"] in {200, 201, 202} and put["path"][-36:] in own}
    assert (states(dag_run), tries(dag_run, "upload")) == ({"upload": "success"}, 2)
    assert len(registered) == 3
    assert result["statistics"]["registered_file_count"] < 3
    assert len(bundle_in(dss, bundle, version=VERSION)["files"]) == 3


def _is_put_file(request: dict[str, Any]) -> bool:
    return bool(request["method"] == "PUT" and request["path"].startswith("/v1/files/"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directory": "/no/such/place"}, "no such directory"),
        ({"include": ["*.none"]}, "no files to upload"),
        ({"bundle_uuid": "not-a-uuid"}, "bundle_uuid must be a UUID"),
        ({"bundle_version": "2026-01-01"}, "bundle_version must be a DSS_VERSION"),
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"staging_bucket": "s3://b/c"}, "staging_bucket must be a bucket's name"),
        ({"staging_bucket": "no-such-bucket-here"}, "there is no such bucket"),
        ({"symlinks": "maybe"}, "symlinks must be one of"),
        ({"max_workers": 0}, "max_workers must be an integer of at least 1"),
        ({"creator_uid": "abc"}, "creator_uid must be an integer"),
        ({"copy_timeout": "soon"}, "copy_timeout must be a number of seconds"),
        ({"content_types": "{}"}, "content_types must map patterns"),
        ({"include": "*.json"}, "include must be a list of patterns"),
        ({"exclude": None}, "exclude must be a list of patterns"),
    ],
)
def test_upload_with_invalid_arguments_fails_without_retries(
    dss: LocalDSS, directory: Path, change: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"directory": directory, "bucket": dss.bucket, **change}
    if "staging_bucket" in options:
        options["bucket"] = options.pop("staging_bucket")
    operator = upload(**options, retries=3)
    with pytest.raises(AirflowFailException, match=message):
        operator.execute(new_context())
    assert requests_of(dss, "PUT", "/v1/") == 0


def test_refused_token_fails_without_retries(dss: LocalDSS, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = dss.token(claims={"aud": "https://another.example.org/"})
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, password=token, key_path=None))
    assert ending(upload(directory, dss.bucket)) == "failed"


def test_put_bundle_takes_the_output_of_mapped_put_file_tasks(dss: LocalDSS) -> None:
    sources = [dss.stage(b"one", "m/z.txt"), dss.stage(large(), "m/a.json"), dss.stage(b"three", "m/b c#1.txt")]
    with new_dag("mapped") as dag:
        files = DSSPutFileOperator.partial(task_id="put_file", file_version=VERSION).expand(source_url=sources)
        DSSPutBundleOperator(
            task_id="put_bundle", files=files.output, bundle_uuid="{{ params.uuid }}", params={"uuid": new_uuid()}
        )
    dag_run = run(dag, logical_date=LOGICAL_DATE)
    result = xcom(dag_run, "put_bundle")
    bundle = bundle_in(dss, result["uuid"])
    assert set(states(dag_run).values()) == {"success"}
    assert [(file["name"], file["size"], file["indexed"]) for file in bundle["files"]] == [
        ("z.txt", 3, False),
        ("a.json", 150_000, True),
        ("b c#1.txt", 5, False),
    ]
    assert (result["file_count"], result["created"], result["version"]) == (3, True, VERSION)
    assert xcom(dag_run, "put_file", "name", map_index=1) == "a.json"


def test_put_operators_of_the_same_run_change_nothing(dss: LocalDSS) -> None:
    context, source = new_context(), dss.stage(new_uuid().encode())
    file = DSSPutFileOperator(task_id="t", source_url=source).execute(context)
    first = DSSPutBundleOperator(task_id="t", files=[file]).execute(context)
    before = dss.control("GET", "store")
    assert DSSPutFileOperator(task_id="t", source_url=source).execute(next_try(context)) == file
    again = DSSPutBundleOperator(task_id="t", files=[file]).execute(next_try(context))
    assert (first["created"], again["created"], first["fqid"]) == (True, False, again["fqid"])
    assert dss.control("GET", "store") == before


def test_put_file_compares_the_asynchronous_copy(dss: LocalDSS) -> None:
    """The DSS accepts other content under the same name with 202, and drops it later."""
    uuid = new_uuid()
    first, second = dss.stage(large()), dss.stage(large())
    DSSPutFileOperator(task_id="t", source_url=first, file_uuid=uuid, file_version=VERSION).execute(new_context())
    operator = DSSPutFileOperator(task_id="t", source_url=second, file_uuid=uuid, file_version=VERSION)
    with pytest.raises(AirflowFailException, match="changed content needs another version"):
        operator.execute(new_context())


def test_put_file_copy_timeout_can_be_retried(dss: LocalDSS) -> None:
    dss.control(
        "POST", "faults", {"method": "HEAD", "path": "/files/", "action": "status", "status": 404, "times": 999}
    )
    operator = DSSPutFileOperator(task_id="t", source_url=dss.stage(large()), copy_timeout=timedelta(seconds=0.3))
    with pytest.raises(DSSCopyError, match="did not store it in time"):
        operator.execute(new_context())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "files is empty"),
        ([{"uuid": BUNDLE, "version": VERSION, "indexed": True}], "name is missing"),
        ([{"uuid": BUNDLE, "version": VERSION, "indexed": True, "name": "/x"}], "refuses names that start with '/'"),
        (
            [{"uuid": BUNDLE, "version": VERSION, "indexed": True, "name": "x"}] * 2,
            "unique in a bundle, got duplicates: x",
        ),
        (["x"], "files must be a list of mappings, got the item 'x'"),
        (None, "files must be a list of mappings, got None"),
        ("[{}]", "files must be a list of mappings"),
    ],
)
def test_put_bundle_with_invalid_files_sends_no_request(dss: LocalDSS, files: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        DSSPutBundleOperator(task_id="t", files=files).execute(new_context())
    assert requests_of(dss, "PUT", "/v1/") == 0


def test_put_bundle_conflict_reports_the_response(dss: LocalDSS) -> None:
    options: dict[str, Any] = {"task_id": "t", "bundle_uuid": new_uuid(), "bundle_version": VERSION}
    DSSPutBundleOperator(files=[dss.entry("a")], **options).execute(new_context())
    with pytest.raises(AirflowFailException, match=r"409 bundle_already_exists: .*request id [0-9a-f-]{36}"):
        DSSPutBundleOperator(files=[dss.entry("b")], **options).execute(new_context())


@pytest.mark.parametrize("operator", [DSSPutFileOperator, DSSPutBundleOperator, DSSUploadDirectoryOperator])
def test_template_fields_are_all_but_options(operator: type[DSSOperator]) -> None:
    import inspect

    options = {
        *("self", "kwargs", "hidden", "symlinks", "copy_timeout", "file_missing_timeout", "multiple_outputs"),
        *("max_workers", "max_bytes_per_second", "max_requests_per_second", "delete_staged"),
        *("compare", "if_unchanged", "if_newer_exists", "max_changed", "missing_schemas"),
    }
    parameters = {*inspect.signature(operator.__init__).parameters, *inspect.signature(DSSOperator.__init__).parameters}
    assert set(operator.template_fields) == parameters - options
    documented = operator.__doc__ or ""
    for name in parameters - {"self", "kwargs", "multiple_outputs"}:
        assert f":param {name}:" in documented
        paragraph = documented.split(f":param {name}:")[1].split(":param")[0]
        assert ("(templated)" in paragraph) == (name in operator.template_fields), name


def test_upload_renders_templates(dss: LocalDSS, directory: Path) -> None:
    params = {"where": str(directory), "creator": 11, "only": ["*.json"], "prefix": f"runs/{new_uuid()}"}
    with new_dag("templated", render_template_as_native_obj=True):
        operator = upload(
            Path("{{ params.where }}"),
            dss.bucket,
            include="{{ params.only }}",
            creator_uid="{{ params.creator }}",
            staging_prefix="{{ params.prefix }}/{{ ds_nodash }}/",
        )
    context = new_context(params=params)
    operator.render_template_fields(context)
    result = operator.execute(context)
    assert (result["file_count"], bundle_in(dss, result["uuid"])["creator_uid"]) == (1, 11)
    assert dss.s3.list_objects_v2(Bucket=dss.bucket, Prefix=f"{params['prefix']}/20260301/")["KeyCount"] == 1


def test_results_are_json(dss: LocalDSS) -> None:
    file = DSSPutFileOperator(task_id="t", source_url=dss.stage(b"json")).execute(new_context())
    assert json.loads(json.dumps(file)) == file


def test_operator_can_be_copied_and_pickled_after_its_run(dss: LocalDSS, directory: Path) -> None:
    operator = upload(directory, dss.bucket)
    operator.execute(new_context())
    assert copy.deepcopy(operator).directory == str(directory)
    assert pickle.loads(pickle.dumps(operator)).directory == str(directory)  # noqa: S301 - its own


def test_hook_is_cached_and_stopped_by_on_kill(dss: LocalDSS) -> None:
    class Operator(DSSOperator):
        def execute(self, context: Context) -> None:  # noqa: ARG002 - Airflow's signature
            with self._open_hook() as hook:
                assert hook is self.hook
                hook.get_collections()
                self.on_kill()
                hook.get_collections()

    operator = Operator(task_id="t")
    with pytest.raises(DSSAbortedError):
        operator.execute(new_context())
    assert requests_of(dss, "GET", "/v1/collections") == 1
    assert "hook" not in vars(operator)


@pytest.fixture
def endless_directory(dss: LocalDSS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory of 100 files; the DSS registers only 20 of them."""
    root = tmp_path / "endless"
    root.mkdir()
    for number in range(100):
        (root / f"{number}.txt").write_text(str(number))
    accept_files(dss, monkeypatch, 20)
    return root


def test_on_kill_stops_the_upload(dss: LocalDSS, endless_directory: Path) -> None:
    operator = upload(endless_directory, dss.bucket)
    with killed_when(operator, lambda: accepted_files(dss) == 20), pytest.raises(DSSAbortedError):
        operator.execute(new_context())
    join_worker_threads()
    assert requests_of(dss, "PUT", "/v1/bundles/") == 0


def test_execution_timeout_stops_the_upload(dss: LocalDSS, endless_directory: Path) -> None:
    with new_dag("upload_timeout") as dag:
        upload(endless_directory, dss.bucket, execution_timeout=timedelta(seconds=2))
    with suppress(AirflowTaskTimeout):  # raised by `dag.test()` of Airflow 2
        assert states(run(dag)) == {"upload": "failed"}
    join_worker_threads()
    assert requests_of(dss, "PUT", "/v1/bundles/") == 0
