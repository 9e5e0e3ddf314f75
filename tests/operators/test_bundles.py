"""The operators that change and delete bundles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

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
    """Give the uuid of a file that is there."""
    return shared_dss.new_file()


def entries(dss: LocalDSS, file: str, names: Iterable[Any]) -> list[dict[str, Any]]:
    return [dss.entry(str(name), file) for name in names]


def bundle_of(dss: LocalDSS, file: str, names: Iterable[Any]) -> str:
    """Make a bundle of one file under these names; return its uuid."""
    uuid = new_uuid()
    assert dss.put_bundle(entries(dss, file, names), uuid).status_code == 201
    return uuid


def names_in(dss: LocalDSS, uuid: str, version: str) -> list[str]:
    query: dict[str, Any] = {"replica": "aws", "version": version}
    names: list[str] = []
    while len(names) % 500 == 0:
        answer = dss.call("GET", f"/bundles/{uuid}", start_at=len(names), **query)
        assert answer.ok, answer.text
        names += [each["name"] for each in answer.json()["bundle"]["files"]]
        if answer.status_code == 200:
            break
    return names


def versions_of(dss: LocalDSS, uuid: str) -> list[str]:
    listed = dss.call("GET", "/bundles/all", replica="aws", prefix=uuid, per_page=500).json()["bundles"]
    return [each["version"] for each in listed]


def fault(dss: LocalDSS, **what: Any) -> None:
    dss.control("POST", "faults", {"method": "PATCH", "path": "/bundles/", **what})


# Changing


def test_files_come_and_go(dss: LocalDSS, file: str) -> None:
    """What mapped tasks registered comes into a bundle, other files go, and the new version is told by XComs."""
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


def test_the_same_run_again_changes_nothing(dss: LocalDSS, file: str) -> None:
    """Running the same DAG run a second time finds the version that the first one made."""
    uuid, context = bundle_of(dss, file, ["a"]), new_context()
    options: dict[str, Any] = {"bundle_uuid": uuid, "bundle_version": VERSION, "add_files": entries(dss, file, ["b"])}
    first = DSSPatchBundleOperator(task_id="patch", **options).execute(context)
    before = dss.control("GET", "store")
    second = DSSPatchBundleOperator(task_id="patch", **options).execute(next_try(context))
    assert dss.control("GET", "store") == before
    assert (second["fqid"], second["created"], second["statistics"]) == (first["fqid"], False, {"patch_count": 0})


@pytest.mark.parametrize("version", [VERSION, None])
def test_a_retry_goes_on(dss: LocalDSS, file: str, version: str | None) -> None:
    """After a try that ended between two PATCHes the retry sends the rest, and each version is made once."""
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
    ("what", "sent"),
    [
        ({"action": "status", "status": 500, "after": True}, 1),
        ({"action": "status", "status": 500}, 2),
        ({"action": "status", "status": 504, "after": True}, 1),
        ({"action": "drop", "after": True}, 1),
        ({"action": "status", "status": 503}, 2),  # read-only
    ],
)
def test_an_unclear_answer_makes_nothing_twice(dss: LocalDSS, file: str, what: dict[str, Any], sent: int) -> None:
    """A PATCH that failed in an unclear way is looked for, and sent again only if it was not done."""
    uuid = bundle_of(dss, file, ["a"])
    fault(dss, **what)
    operator = DSSPatchBundleOperator(task_id="t", bundle_uuid=uuid, add_files=entries(dss, file, ["b"]))
    result = operator.execute(new_context())
    assert versions_of(dss, uuid) == [VERSION, result["version"]]
    assert requests_of(dss, "PATCH", "/v1/bundles/") == sent


def test_a_missing_file_is_named_and_may_come_yet(dss: LocalDSS, file: str) -> None:
    """A file that is not there is named, and the error is one that a retry may turn."""
    uuid, gone = bundle_of(dss, file, ["a"]), new_uuid()
    operator = DSSPatchBundleOperator(
        task_id="t", bundle_uuid=uuid, add_files=[dss.entry("b", file), dss.entry("c", gone)]
    )
    with pytest.raises(Exception, match=f"500 file_missing: there is no file {gone}.*'c'.* in aws") as caught:
        operator.execute(new_context())
    assert type(caught.value).__name__ == "DSSResponseError"
    assert versions_of(dss, uuid) == [VERSION]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundle_uuid": "x"}, "bundle uuid must be a uuid"),
        ({"bundle_version": "2026"}, "bundle version must be a DSS_VERSION"),
        ({"bundle_version": ""}, "bundle version must be a DSS_VERSION"),
        ({"replica": "azure"}, "replica must be one of aws, gcp"),
        ({"add_files": None}, "add_files must be a list of mappings, got None"),
        ({"add_files": "[]"}, "add_files must be a list"),
        ({"add_files": 5}, "add_files must be a list of mappings, got 5"),
        ({"remove_files": {"uuid": "x"}}, "remove_files must be a list"),
        ({"remove_files": ["x"]}, "remove_files must be a list of mappings, got the item 'x'"),
        ({"add_files": [{"name": "c"}]}, "uuid, version, indexed is missing"),
        ({"add_files": [{"uuid": new_uuid(), "version": VERSION, "name": "/c", "indexed": True}]}, "refuses the name"),
        (
            {"add_files": [{"uuid": new_uuid(), "version": VERSION, "name": "a", "indexed": True}]},
            "another file of the",
        ),
        ({"bundle_uuid": new_uuid()}, "404 not_found"),
    ],
)
def test_wrong_changes_spend_no_retry(dss: LocalDSS, file: str, change: dict[str, Any], message: str) -> None:
    """What no retry can mend fails at once, says why, and changes nothing."""
    options = {"bundle_uuid": bundle_of(dss, file, ["a"]), "add_files": entries(dss, file, ["b"]), **change}
    with pytest.raises(Exception, match=message) as caught:
        DSSPatchBundleOperator(task_id="t", **options).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert requests_of(dss, "PATCH", "/v1/") == 0


# Deleting


def test_a_bundle_is_deleted_once_and_again(dss: LocalDSS, file: str) -> None:
    """A bundle that a run made is deleted; deleting it again for the same reason succeeds and changes nothing."""
    with new_dag("delete_bundle", params={"why": "it was a test"}) as dag:
        put = DSSPutBundleOperator(task_id="put", files=entries(dss, file, ["a"]))
        delete = DSSDeleteBundleOperator(
            task_id="delete", bundle_uuid=output(put, "uuid"), reason="{{ params.why }}: {{ ds }}"
        )
        DSSDeleteBundleOperator(task_id="again", bundle_uuid=output(delete, "uuid"), reason="it was a test: {{ ds }}")
    dag_run = run(dag)
    uuid = xcom(dag_run, "put", "uuid")
    assert set(states(dag_run).values()) == {"success"}
    deleted = {"uuid": uuid, "version": None, "fqid": None, "replica": "aws"}
    assert xcom(dag_run, "delete") == xcom(dag_run, "again") == deleted
    assert dss.call("GET", f"/bundles/{uuid}", replica="aws").status_code == 404


def test_one_version_is_deleted(dss: LocalDSS, file: str) -> None:
    """With a version the others stay."""
    uuid, later = bundle_of(dss, file, ["a"]), "2025-01-01T000000.000000Z"
    dss.put_bundle(entries(dss, file, ["b"]), uuid, later)
    options: dict[str, Any] = {"task_id": "t", "bundle_uuid": uuid.upper(), "bundle_version": VERSION, "reason": "r"}
    result = DSSDeleteBundleOperator(**options).execute(new_context())
    assert result == {"uuid": uuid, "version": VERSION, "fqid": f"{uuid}.{VERSION}", "replica": "aws"}
    assert versions_of(dss, uuid) == [later]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundle_uuid": "x"}, "bundle_uuid must be a uuid"),
        ({"bundle_uuid": new_uuid()}, "404 not_found"),
        ({"bundle_version": ""}, "bundle version must be a DSS_VERSION"),
        ({"bundle_version": "2025-01-01T000000.000000Z"}, "404 not_found"),
        ({"replica": "azure"}, "replica must be one of aws, gcp"),
        ({"replica": "gcp"}, "404 not_found"),
        ({"reason": " "}, "a bundle is deleted for a reason"),
        ({"reason": None}, "a bundle is deleted for a reason"),
    ],
)
def test_wrong_deletions_spend_no_retry(dss: LocalDSS, file: str, change: dict[str, Any], message: str) -> None:
    """An unknown bundle, no reason, or what is not well-formed fails at once, and nothing is deleted."""
    uuid = bundle_of(dss, file, ["a"])
    with pytest.raises(Exception, match=message) as caught:
        DSSDeleteBundleOperator(task_id="t", **{"bundle_uuid": uuid, "reason": "r", **change}).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert versions_of(dss, uuid) == [VERSION]


def test_another_reason_is_a_conflict(dss: LocalDSS, file: str) -> None:
    """What was deleted for another reason fails at once, in the DSS's own words."""
    uuid = bundle_of(dss, file, ["a"])
    DSSDeleteBundleOperator(task_id="t", bundle_uuid=uuid, reason="one").execute(new_context())
    with pytest.raises(Exception, match=r"409 bundle_tombstone_already_exists.*request id") as caught:
        DSSDeleteBundleOperator(task_id="t", bundle_uuid=uuid, reason="two").execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"


def test_only_administrators_delete(dss: LocalDSS, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's token is refused at once, and the bundle stays."""
    uuid = bundle_of(dss, file, ["a"])
    token = dss.token(claims={EMAIL: "somebody@example.org"})
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, password=token, key_path=None))
    with pytest.raises(Exception, match=r"403 Forbidden.*Check whether the account") as caught:
        DSSDeleteBundleOperator(task_id="t", bundle_uuid=uuid, reason="r").execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert token not in str(caught.value)
    assert versions_of(dss, uuid) == [VERSION]
