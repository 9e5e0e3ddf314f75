"""Test the operators that patch and delete bundles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_hca.exceptions import DSSResponseError
from airflow_provider_hca.operators.dss import (
    DSSDeleteBundleOperator,
    DSSPatchBundleOperator,
    DSSPutBundleOperator,
    DSSPutFileOperator,
)
from tests.local.server import EMAIL, VERSION, LocalDSS, new_uuid
from tests.running import connection, ending, new_context, new_dag, next_try, output, requests_of, run, states, xcom

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

OTHER = {"uuid": new_uuid(), "version": VERSION, "name": "a", "indexed": True}


@pytest.fixture(scope="module")
def file(shared_dss: LocalDSS) -> str:
    """Return the UUID of an existing file."""
    return shared_dss.new_file()


def entries(dss: LocalDSS, file: str, names: Iterable[Any]) -> list[dict[str, Any]]:
    return [dss.entry(str(name), file) for name in names]


def bundle_of(dss: LocalDSS, file: str, names: Iterable[Any]) -> str:
    """Create a bundle with one file under several names; return its UUID."""
    uuid = new_uuid()
    assert dss.put_bundle(entries(dss, file, names), uuid).status_code == 201
    return uuid


def names_stored(dss: LocalDSS, uuid: str, version: str) -> list[str]:
    """Return the names of files of a version in the store, whatever the caches have."""
    bundles = {(one["replica"], one["uuid"], one["version"]): one for one in dss.control("GET", "store")["bundles"]}
    return [file["name"] for file in bundles["aws", uuid, version]["manifest"]["files"]]


def names_in(dss: LocalDSS, uuid: str, version: str) -> list[str]:
    query: dict[str, Any] = {"replica": "aws", "version": version}
    names: list[str] = []
    while len(names) % 500 == 0:
        answer = dss.call("GET", f"/bundles/{uuid}", start_at=len(names), **query)
        assert answer.ok, answer.text
        names += [file["name"] for file in answer.json()["bundle"]["files"]]
        if answer.status_code == 200:
            break
    return names


def versions_of(dss: LocalDSS, uuid: str) -> list[str]:
    listed = dss.call("GET", "/bundles/all", replica="aws", prefix=uuid, per_page=500).json()["bundles"]
    return [bundle["version"] for bundle in listed]


def fault(dss: LocalDSS, **action: Any) -> None:
    dss.control("POST", "faults", {"method": "PATCH", "path": "/bundles/", **action})


# Changing


def test_patch_in_a_dag_adds_and_removes_files(dss: LocalDSS, file: str) -> None:
    uuid = bundle_of(dss, file, ["a", "b"])
    sources = [dss.stage(b"one", "p/c.txt"), dss.stage(b"two", "p/d.json")]
    with new_dag("patch_bundle") as dag:
        files = DSSPutFileOperator.partial(task_id="put_file").expand(source_url=sources)
        patch = DSSPatchBundleOperator(
            task_id="patch",
            bundle_uuid="{{ params.uuid | upper }}",
            bundle_version="{{ params.version }}",
            add_files=files.output,
            remove_files=entries(dss, file, ["a"]),
            params={"uuid": uuid, "version": VERSION},
        )
        DSSPatchBundleOperator(
            task_id="again", bundle_uuid=output(patch, "uuid"), remove_files=entries(dss, file, ["b", "x"])
        )
    dag_run = run(dag)
    result, last = xcom(dag_run, "patch"), xcom(dag_run, "again")
    assert result == {
        "uuid": uuid,
        "version": result["version"],
        "fqid": f"{uuid}.{result['version']}",
        "replica": "aws",
        "file_count": 3,
        "created": True,
        "statistics": {"patch_count": 1},
    }
    assert xcom(dag_run, "patch", "fqid") == result["fqid"]
    assert names_in(dss, uuid, result["version"]) == ["b", "c.txt", "d.json"]
    assert names_in(dss, uuid, last["version"]) == ["c.txt", "d.json"]
    assert versions_of(dss, uuid) == [VERSION, result["version"], last["version"]]


def test_patch_of_the_same_run_changes_nothing(dss: LocalDSS, file: str) -> None:
    uuid, context = bundle_of(dss, file, ["a"]), new_context()
    options: dict[str, Any] = {"bundle_uuid": uuid, "bundle_version": VERSION, "add_files": entries(dss, file, ["b"])}
    first = DSSPatchBundleOperator(task_id="patch", **options).execute(context)
    before = dss.control("GET", "store")
    second = DSSPatchBundleOperator(task_id="patch", **options).execute(next_try(context))
    assert dss.control("GET", "store") == before
    assert (second["fqid"], second["created"], second["statistics"]) == (first["fqid"], False, {"patch_count": 0})


@pytest.mark.parametrize("version", [VERSION, None])
def test_patch_retry_sends_only_the_rest(dss: LocalDSS, file: str, version: str | None) -> None:
    uuid, context = bundle_of(dss, file, ["a"]), new_context()
    fault(dss, action="slow", seconds=0, times=1)
    fault(dss, action="status", status=408)
    options: dict[str, Any] = {"bundle_uuid": uuid, "bundle_version": version}
    operator = DSSPatchBundleOperator(task_id="patch", add_files=entries(dss, file, range(1001)), **options)
    assert ending(operator, context) == "up_for_retry"
    result = operator.execute(next_try(context))
    assert (result["statistics"]["patch_count"], result["file_count"]) == (1, 1002)
    assert names_in(dss, uuid, result["version"]) == ["a", *map(str, range(1001))]
    assert len(versions_of(dss, uuid)) == 3
    assert requests_of(dss, "PATCH", "/v1/bundles/") == 3


@pytest.mark.parametrize(
    ("failure", "sent"),
    [
        ({"action": "status", "status": 500, "after": True}, 1),
        ({"action": "status", "status": 500}, 2),
        ({"action": "status", "status": 504, "after": True}, 1),
        ({"action": "drop", "after": True}, 1),
        ({"action": "status", "status": 503}, 2),  # read-only
    ],
)
def test_patch_after_an_unclear_response_is_not_applied_twice(
    dss: LocalDSS, file: str, failure: dict[str, Any], sent: int
) -> None:
    uuid = bundle_of(dss, file, ["a"])
    fault(dss, **failure)
    operator = DSSPatchBundleOperator(task_id="t", bundle_uuid=uuid, add_files=entries(dss, file, ["b"]))
    result = operator.execute(new_context())
    assert versions_of(dss, uuid) == [VERSION, result["version"]]
    assert requests_of(dss, "PATCH", "/v1/bundles/") == sent


def test_patch_with_a_missing_file_can_be_retried(dss: LocalDSS, file: str) -> None:
    uuid, gone = bundle_of(dss, file, ["a"]), new_uuid()
    operator = DSSPatchBundleOperator(
        task_id="t", bundle_uuid=uuid, add_files=[dss.entry("b", file), dss.entry("c", gone)]
    )
    with pytest.raises(DSSResponseError, match=f"500 file_missing: file {gone}.*'c'.* does not exist in aws"):
        operator.execute(new_context())
    assert versions_of(dss, uuid) == [VERSION]


@pytest.mark.parametrize("seed", range(4))
def test_patch_retry_after_a_missing_file_makes_all_changes(dss: LocalDSS, file: str, seed: int) -> None:
    """The failed PATCH leaves its removal in the cache of a process of the DSS."""
    dss.control("POST", "processes", {"count": 4, "seed": seed})
    uuid, late, context = bundle_of(dss, file, ["a", "b"]), new_uuid(), new_context()
    operator = DSSPatchBundleOperator(
        task_id="t",
        bundle_uuid=uuid,
        bundle_version=VERSION,
        add_files=[dss.entry("c", late)],
        remove_files=entries(dss, file, ["a"]),
    )
    assert ending(operator, context) == "up_for_retry"
    assert dss.put_file(dss.stage(b"late"), late).status_code == 201
    result = operator.execute(next_try(context))
    assert (names_stored(dss, uuid, result["version"]), result["file_count"]) == (["b", "c"], 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundle_uuid": "x"}, "bundle uuid must be a UUID"),
        ({"bundle_version": "2026"}, "bundle version must be a DSS_VERSION"),
        ({"bundle_version": ""}, "bundle version must be a DSS_VERSION"),
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"add_files": None}, "add_files must be a list of mappings, got None"),
        ({"add_files": "[]"}, "add_files must be a list"),
        ({"add_files": 5}, "add_files must be a list of mappings, got 5"),
        ({"remove_files": {"uuid": "x"}}, "remove_files must be a list"),
        ({"remove_files": ["x"]}, "remove_files must be a list of mappings, got the item 'x'"),
        ({"add_files": [{"name": "c"}]}, "uuid, version, indexed is missing"),
        ({"add_files": [{"uuid": new_uuid(), "version": VERSION, "name": "/c", "indexed": True}]}, "refuses names"),
        (
            {"add_files": [{"uuid": new_uuid(), "version": VERSION, "name": "a", "indexed": True}]},
            "already has another file named",
        ),
        ({"bundle_uuid": new_uuid()}, "404 not_found"),
    ],
)
def test_patch_with_invalid_arguments_fails_without_retries(
    dss: LocalDSS, file: str, change: dict[str, Any], message: str
) -> None:
    options = {"bundle_uuid": bundle_of(dss, file, ["a"]), "add_files": entries(dss, file, ["b"]), **change}
    with pytest.raises(AirflowFailException, match=message):
        DSSPatchBundleOperator(task_id="t", **options).execute(new_context())
    assert requests_of(dss, "PATCH", "/v1/") == 0


# Deleting


def test_delete_again_for_the_same_reason_succeeds(dss: LocalDSS, file: str) -> None:
    with new_dag("delete_bundle", params={"why": "a test"}) as dag:
        put = DSSPutBundleOperator(task_id="put", files=entries(dss, file, ["a"]))
        delete = DSSDeleteBundleOperator(
            task_id="delete", bundle_uuid=output(put, "uuid"), reason="{{ params.why }}: {{ ds }}"
        )
        DSSDeleteBundleOperator(task_id="again", bundle_uuid=output(delete, "uuid"), reason="a test: {{ ds }}")
    dag_run = run(dag)
    uuid = xcom(dag_run, "put", "uuid")
    assert set(states(dag_run).values()) == {"success"}
    deleted = {"uuid": uuid, "version": None, "fqid": None, "replica": "aws"}
    assert xcom(dag_run, "delete") == xcom(dag_run, "again") == deleted
    assert dss.call("GET", f"/bundles/{uuid}", replica="aws").status_code == 404


def test_delete_with_a_version_keeps_the_others(dss: LocalDSS, file: str) -> None:
    uuid, later = bundle_of(dss, file, ["a"]), "2025-01-01T000000.000000Z"
    dss.put_bundle(entries(dss, file, ["b"]), uuid, later)
    options: dict[str, Any] = {"task_id": "t", "bundle_uuid": uuid.upper(), "bundle_version": VERSION, "reason": "r"}
    result = DSSDeleteBundleOperator(**options).execute(new_context())
    assert result == {"uuid": uuid, "version": VERSION, "fqid": f"{uuid}.{VERSION}", "replica": "aws"}
    assert versions_of(dss, uuid) == [later]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundle_uuid": "x"}, "bundle_uuid must be a UUID"),
        ({"bundle_uuid": new_uuid()}, "404 not_found"),
        ({"bundle_version": ""}, "bundle version must be a DSS_VERSION"),
        ({"bundle_version": "2025-01-01T000000.000000Z"}, "404 not_found"),
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"replica": "gcp"}, "404 not_found"),
        ({"reason": " "}, "reason must be a non-empty text"),
        ({"reason": None}, "reason must be a non-empty text"),
    ],
)
def test_delete_with_invalid_arguments_fails_without_retries(
    dss: LocalDSS, file: str, change: dict[str, Any], message: str
) -> None:
    uuid = bundle_of(dss, file, ["a"])
    with pytest.raises(AirflowFailException, match=message):
        DSSDeleteBundleOperator(task_id="t", **{"bundle_uuid": uuid, "reason": "r", **change}).execute(new_context())
    assert versions_of(dss, uuid) == [VERSION]


def test_delete_for_another_reason_is_a_conflict(dss: LocalDSS, file: str) -> None:
    uuid = bundle_of(dss, file, ["a"])
    DSSDeleteBundleOperator(task_id="t", bundle_uuid=uuid, reason="one").execute(new_context())
    with pytest.raises(AirflowFailException, match=r"409 bundle_tombstone_already_exists.*request id"):
        DSSDeleteBundleOperator(task_id="t", bundle_uuid=uuid, reason="two").execute(new_context())


def test_delete_by_another_account_is_refused(dss: LocalDSS, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = bundle_of(dss, file, ["a"])
    token = dss.token(claims={EMAIL: "another@example.org"})
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, password=token, key_path=None))
    with pytest.raises(AirflowFailException, match=r"403 Forbidden.*Check whether the account") as caught:
        DSSDeleteBundleOperator(task_id="t", bundle_uuid=uuid, reason="r").execute(new_context())
    assert token not in str(caught.value)
    assert versions_of(dss, uuid) == [VERSION]
