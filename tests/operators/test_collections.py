"""Test the collection operators."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_hca.exceptions import DSSNotFoundError
from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import (
    DSSDeleteCollectionOperator,
    DSSPatchCollectionOperator,
    DSSPutBundleOperator,
    DSSPutCollectionOperator,
)
from tests.client.feeding import refusal
from tests.client.server import Reply, Server
from tests.local.server import VERSION, LocalDSS, User, new_uuid
from tests.running import (
    LOGICAL_DATE,
    connection,
    ending,
    new_context,
    new_dag,
    next_try,
    output,
    requests_of,
    run,
    states,
    tries,
    xcom,
)

pytestmark = pytest.mark.usefixtures("airflow_db", "dss")

LATER = "2025-01-01T000000.000000Z"
RUN_VERSION = "2026-03-01T123000.000000Z"
UNKNOWN_OWNER = "another owner, not named by the DSS"


@pytest.fixture(scope="module")
def numbers(shared_dss: LocalDSS) -> str:
    """Return the UUID of a JSON file with 2,000 items to link to."""
    return shared_dss.new_file(json.dumps([*range(2000)]).encode())


def links(numbers: str, wanted: Iterable[int]) -> list[dict[str, Any]]:
    return [{"type": "number", "uuid": numbers, "version": VERSION, "fragment": f"/{number}"} for number in wanted]


def stored(uuid: str, version: str | None = None) -> dict[str, Any]:
    """Return a collection as its owner sees it."""
    with DSSHook() as hook:
        return hook.get_collection(uuid, replica="aws", version=version)


def put(**options: Any) -> DSSPutCollectionOperator:
    return DSSPutCollectionOperator(**{"task_id": "put", "name": "n", "description": "d", **options})


def put_by_another_user(dss: LocalDSS, uuid: str, version: str = VERSION, **changes: Any) -> User:
    """Create a collection of another user; return the user."""
    user = User(dss)
    body = {"name": "n", "description": "d", "details": {}, "contents": [], **changes}
    assert user.call("PUT", "/collections", body, uuid=uuid, version=version, replica="aws").status_code == 201
    return user


# Putting


def test_put_in_a_dag_links_to_outputs_of_other_tasks(dss: LocalDSS, numbers: str) -> None:
    with new_dag("put_collection", params={"subject": "cells"}) as dag:
        bundle = DSSPutBundleOperator(task_id="bundle", files=[dss.entry("a", numbers)])
        item = {"type": "bundle", "uuid": output(bundle, "uuid"), "version": output(bundle, "version")}
        put(
            name="{{ params.subject }} of {{ ds }}",
            contents=[item, *links(numbers, [1, 2, 1])],
            details={"run": "{{ run_id }}"},
        )
    dag_run = run(dag, logical_date=LOGICAL_DATE)
    result = xcom(dag_run, "put")
    assert result == {
        "uuid": result["uuid"],
        "version": RUN_VERSION,
        "fqid": f"{result['uuid']}.{RUN_VERSION}",
        "replica": "aws",
        "item_count": 3,
        "created": True,
    }
    assert xcom(dag_run, "put", "uuid") == result["uuid"]
    collection = stored(result["uuid"], RUN_VERSION)
    assert (collection["name"], collection["details"]) == ("cells of 2026-03-01", {"run": dag_run.run_id})
    bundle_item = {"type": "bundle", "uuid": xcom(dag_run, "bundle", "uuid"), "version": RUN_VERSION}
    assert collection["contents"] == [bundle_item, *links(numbers, [1, 2])]


def test_put_of_the_same_run_sends_no_second_request(dss: LocalDSS, numbers: str) -> None:
    context = new_context()
    operator = put(contents=links(numbers, [2, 1, 2]), details={"a": [1, None]})
    first, second = operator.execute(context), operator.execute(next_try(context))
    assert second == {**first, "created": False}
    assert requests_of(dss, "PUT", "/v1/collections") == 1


def test_put_retry_after_a_lost_response_sends_no_second_request(
    dss: LocalDSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=0))
    dss.control("POST", "faults", {"method": "PUT", "path": "/collections", "action": "drop", "after": True})
    context = new_context()
    assert ending(put(), context) == "up_for_retry"
    assert put().execute(next_try(context))["created"] is False
    assert requests_of(dss, "PUT", "/v1/collections") == 1


def test_put_of_another_run_creates_another_version(dss: LocalDSS) -> None:
    uuid = new_uuid()
    first = put(collection_uuid=uuid.upper(), description="first").execute(new_context())
    later = new_context(logical_date=LOGICAL_DATE + timedelta(days=1))
    second = put(collection_uuid=uuid.upper(), description="second").execute(later)
    assert (first["uuid"], second["uuid"], second["created"]) == (uuid, uuid, True)
    assert first["version"] < second["version"]
    assert stored(uuid, first["version"])["description"] == "first"
    assert stored(uuid)["description"] == "second"


@pytest.mark.parametrize(
    "change", [{"name": "x"}, {"description": "x"}, {"details": {"x": 1}}, {"contents": []}], ids=str
)
def test_put_does_not_overwrite_other_content(dss: LocalDSS, numbers: str, change: dict[str, Any]) -> None:
    uuid = new_uuid()
    options = {"collection_uuid": uuid, "collection_version": VERSION, "contents": links(numbers, [1])}
    put(**options).execute(new_context())
    before = stored(uuid)
    with pytest.raises(AirflowFailException, match="exists with other content; it belongs to you") as caught:
        put(**{**options, **change}).execute(new_context())
    assert f"collection {uuid}.{VERSION} exists" in str(caught.value)
    assert f"belongs to you ({before['owner']}). Nothing was overwritten: use another collection_version" in str(
        caught.value
    )
    assert stored(uuid) == before


def test_if_exists_of_an_own_collection(dss: LocalDSS, numbers: str) -> None:
    options = {"collection_uuid": new_uuid(), "collection_version": VERSION}
    put(**options).execute(new_context())
    skipped = put(**options, name="x", if_exists="skip", contents=links(numbers, [1])).execute(new_context())
    assert (skipped["version"], skipped["item_count"], skipped["created"]) == (VERSION, 0, False)
    assert stored(options["collection_uuid"])["name"] == "n"
    overwritten = put(**options, name="x", if_exists="overwrite").execute(new_context())
    assert (overwritten["version"], overwritten["created"]) == (VERSION, True)
    assert stored(options["collection_uuid"])["name"] == "x"


@pytest.mark.parametrize("version", [VERSION, LATER])
def test_if_exists_of_another_owners_collection(dss: LocalDSS, version: str) -> None:
    uuid = new_uuid()
    owner = put_by_another_user(dss, uuid)
    options = {"collection_uuid": uuid, "collection_version": version}
    which = f"{uuid}.{VERSION}" if version == VERSION else uuid
    with pytest.raises(
        AirflowFailException, match=f"collection {which} exists and belongs to {UNKNOWN_OWNER}. Nothing was "
    ) as caught:
        put(**options).execute(new_context())
    assert "use another collection_uuid; or set if_exists='skip'" in str(caught.value)
    skipped = put(**options, if_exists="skip").execute(new_context())
    expected = (version, f"{uuid}.{version}", False) if version == VERSION else (None, None, False)
    assert (skipped["version"], skipped["fqid"], skipped["created"]) == expected
    assert skipped["item_count"] is None
    assert owner.call("GET", f"/collections/{uuid}", replica="aws").json()["owner"] == owner.email
    assert put(**options, if_exists="overwrite").execute(new_context())["created"]
    assert stored(uuid)["owner"] != owner.email


@pytest.mark.parametrize("same", [True, False])
def test_put_names_the_owner_if_the_dss_shows_it(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    uuid = new_uuid()
    collection: dict[str, Any] = {"name": "n", "description": "d" if same else "x", "details": {}, "contents": []}
    answers: list[Any] = [{**collection, "owner": "she@example.org"}, {"collections": []}]
    with Server([Reply(body=json.dumps(answer).encode()) for answer in answers]) as server:
        settings = {"conn_type": "hca_dss", "host": server.url, "password": "a.b.c"}
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps(settings))
        with pytest.raises(Exception, match=r"exists and belongs to she@example\.org\. Nothing was overwritten"):
            put(collection_uuid=uuid, collection_version=VERSION).execute(new_context())
        assert [asked.method for asked in server.asked] == ["GET", "GET"]


def test_put_takes_a_500_with_a_refusal_for_another_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DSS answers 500 instead of 403 to requests for another owner's collection."""
    refused = Reply(500, body=refusal().body)
    with Server([refused, Reply(body=b'{"collections": []}')]) as server:
        settings = {"conn_type": "hca_dss", "host": server.url, "password": "a.b.c"}
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps(settings))
        with pytest.raises(Exception, match=f"exists and belongs to {UNKNOWN_OWNER}"):
            put(collection_uuid=new_uuid(), collection_version=VERSION).execute(new_context())
        assert [asked.method for asked in server.asked] == ["GET", "GET"]


def test_put_with_a_refused_token_reports_the_token(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, group="other"))
    with pytest.raises(Exception, match=r"403 Forbidden: .*'group' in its extra"):
        put(if_exists="skip").execute(new_context())


def test_put_of_a_deleted_uuid_fails(dss: LocalDSS) -> None:
    """A DSS accepts the request but hides the collection."""
    options = {"collection_uuid": new_uuid(), "collection_version": VERSION}
    put(**options).execute(new_context())
    DSSDeleteCollectionOperator(task_id="t", collection_uuid=options["collection_uuid"]).execute(new_context())
    with pytest.raises(AirflowFailException, match=r"was deleted.*use another collection_uuid"):
        put(**options).execute(new_context())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collection_uuid": "x"}, "collection_uuid must be a UUID"),
        ({"collection_version": "2026"}, "collection_version must be a DSS_VERSION"),
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"if_exists": "maybe"}, "if_exists must be one of fail, skip, overwrite, got 'maybe'"),
        ({"contents": "[]"}, "contents must be a list"),
        ({"contents": [{"type": "file"}]}, "uuid, version is missing"),
        ({"contents": [{"type": "cell", "uuid": new_uuid(), "version": VERSION}]}, "needs a fragment"),
        ({"contents": [{"type": "file", "uuid": new_uuid(), "version": VERSION, "path": "/a"}]}, "path is unknown"),
        ({"details": "{}"}, "details must be a mapping"),
        ({"details": {"a": {1}}}, "cannot be encoded as JSON"),
        ({"name": None}, "name must be text, got None"),
        ({"description": 5}, "description must be text, got 5"),
    ],
)
def test_put_with_invalid_arguments_fails_without_retries(dss: LocalDSS, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        put(**change).execute(new_context())
    assert requests_of(dss, "PUT", "/v1/") == 0


def test_put_with_too_many_links_fails_before_any_request(dss: LocalDSS, numbers: str) -> None:
    put(collection_uuid=new_uuid(), contents=links(numbers, [*range(1000), 0])).execute(new_context())
    dss.control("DELETE", "requests")
    with pytest.raises(Exception, match=r"at most 1,000 links, got 1,001: .* DSSPatchCollectionOperator"):
        put(contents=links(numbers, range(1001))).execute(new_context())
    assert dss.control("GET", "requests") == []


def test_put_with_a_broken_link_reports_the_response(dss: LocalDSS) -> None:
    item = {"type": "bundle", "uuid": new_uuid(), "version": VERSION}
    with pytest.raises(AirflowFailException, match=f"422 invalid_link.*{item['uuid']}"):
        put(collection_uuid=new_uuid(), contents=[item]).execute(new_context())


# Changing


@pytest.fixture
def collection(dss: LocalDSS, numbers: str) -> str:
    """Return the UUID of a collection with one link."""
    uuid = new_uuid()
    put(collection_uuid=uuid, collection_version=VERSION, contents=links(numbers, [0])).execute(new_context())
    dss.control("DELETE", "requests")
    return uuid


def patch(uuid: str, **options: Any) -> DSSPatchCollectionOperator:
    return DSSPatchCollectionOperator(
        **{"task_id": "patch", "collection_uuid": uuid, "collection_version": VERSION, **options}
    )


def test_patch_in_a_dag_changes_links_and_fields(dss: LocalDSS, numbers: str, collection: str) -> None:
    with new_dag("patch_collection", params={"uuid": collection}) as dag:
        patch(
            "{{ params.uuid | upper }}",
            add_contents=links(numbers, [2, 1]),
            remove_contents=links(numbers, [0, 7]),
            name="changed on {{ ds }}",
            details={"b": 1},
        )
    dag_run = run(dag, logical_date=LOGICAL_DATE)
    result = xcom(dag_run, "patch")
    assert result == {
        "uuid": collection,
        "version": result["version"],
        "fqid": f"{collection}.{result['version']}",
        "replica": "aws",
        "item_count": 2,
        "created": True,
        "statistics": {"patch_count": 1},
    }
    assert xcom(dag_run, "patch", "version") == result["version"]
    changed, old = stored(collection, result["version"]), stored(collection, VERSION)
    assert changed["contents"] == links(numbers, [2, 1])
    assert (changed["name"], changed["description"], changed["details"]) == ("changed on 2026-03-01", "d", {"b": 1})
    assert (old["contents"], old["name"]) == (links(numbers, [0]), "n")


def test_patch_without_changes_creates_no_version(dss: LocalDSS, numbers: str, collection: str) -> None:
    result = patch(collection, add_contents=links(numbers, [0]), description="d").execute(new_context())
    assert (result["version"], result["item_count"], result["created"]) == (VERSION, 1, False)
    assert result["statistics"] == {"patch_count": 0}
    assert requests_of(dss, "PATCH", "/v1/collections/") == 0


def fail_second_patch(dss: LocalDSS, status: int) -> None:
    """Refuse the second PATCH, once."""
    patches = {"method": "PATCH", "path": "/collections/"}
    dss.control("POST", "faults", {**patches, "action": "slow", "seconds": 0, "times": 1})
    dss.control("POST", "faults", {**patches, "action": "status", "status": status})


def test_patch_retry_resumes_where_airflow_stores_task_state(dss: LocalDSS, numbers: str, collection: str) -> None:
    fail_second_patch(dss, 408)
    with new_dag("patch_collection_retry") as dag:
        patch(collection, add_contents=links(numbers, range(1, 1002)), retries=1, retry_delay=timedelta(0))
    dag_run = run(dag)
    result = xcom(dag_run, "patch")
    assert (states(dag_run), tries(dag_run, "patch")) == ({"patch": "success"}, 2)
    assert stored(collection, result["version"])["contents"] == links(numbers, range(1002))
    assert result["item_count"] == 1002
    assert result["statistics"]["patch_count"] == (1 if AIRFLOW_V_3_3_PLUS else 2)


def test_patch_without_task_state_starts_again(dss: LocalDSS, numbers: str, collection: str) -> None:
    fail_second_patch(dss, 422)
    operator = patch(collection, add_contents=links(numbers, range(1, 1002)))
    assert ending(operator) == "failed"
    result = operator.execute(new_context())
    assert stored(collection, result["version"])["contents"] == links(numbers, range(1002))
    assert (result["item_count"], result["statistics"]["patch_count"]) == (1002, 2)


def test_patch_ignores_the_state_of_another_collection(numbers: str, collection: str) -> None:
    for kept in (
        {"from": f"aws/{collection}.{LATER}", "version": LATER},
        {"from": f"aws/{collection}.{VERSION}", "version": LATER},
        {"from": f"aws/{collection}.{VERSION}", "version": 5},
        "rubbish",
    ):
        context: Any = {**new_context(), "task_state_store": StoredState(kept)}
        result = patch(collection, add_contents=links(numbers, [1])).execute(context)
        assert stored(collection, result["version"])["contents"] == links(numbers, [0, 1])
        assert context["task_state_store"].kept == {
            "from": f"aws/{collection}.{VERSION}",
            "version": result["version"],
        }


class StoredState:
    """Task state store with one value."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def get(self, _: str) -> Any:
        """Return the value."""
        return self.kept

    def set(self, _: str, value: Any) -> None:
        """Replace the value."""
        self.kept = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collection_uuid": "x"}, "collection uuid must be a UUID"),
        ({"collection_uuid": new_uuid()}, "404 not_found"),
        ({"collection_version": LATER}, "404 not_found"),
        ({"collection_version": None}, "collection version must be a DSS_VERSION"),
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
        ({"add_contents": "[]"}, "add_contents must be a list"),
        ({"remove_contents": [5]}, "remove_contents must be a list of mappings, got the item 5"),
        ({"add_contents": [{"type": "file"}]}, "uuid, version is missing"),
        ({"details": []}, "details must be a mapping"),
        ({"name": 5}, "name must be text, got 5"),
    ],
)
def test_patch_with_invalid_arguments_fails_without_retries(
    dss: LocalDSS, collection: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        patch(**{"uuid": collection, "name": "new", **change}).execute(new_context())
    assert requests_of(dss, "PATCH", "/v1/") == 0


def test_patch_of_another_owners_collection_is_refused(dss: LocalDSS) -> None:
    uuid = new_uuid()
    put_by_another_user(dss, uuid)
    with pytest.raises(AirflowFailException, match="500 forbidden"):
        patch(uuid, name="mine").execute(new_context())
    assert requests_of(dss, "PATCH", "/v1/") == 0


# Deleting


def test_delete_again_succeeds_and_reports_it(dss: LocalDSS, collection: str) -> None:
    with new_dag("delete_collection", params={"uuid": collection}) as dag:
        first = DSSDeleteCollectionOperator(task_id="first", collection_uuid="{{ params.uuid | upper }}")
        first >> DSSDeleteCollectionOperator(task_id="again", collection_uuid=output(first, "uuid"))
    dag_run = run(dag)
    assert states(dag_run) == {"first": "success", "again": "success"}
    assert xcom(dag_run, "first") == {"uuid": collection, "replica": "aws", "deleted": True}
    assert xcom(dag_run, "again") == {"uuid": collection, "replica": "aws", "deleted": False}
    with DSSHook() as hook, pytest.raises(DSSNotFoundError):
        hook.get_collection(collection, replica="aws")


def test_delete_after_a_lost_response_succeeds(dss: LocalDSS, collection: str) -> None:
    dss.control("POST", "faults", {"method": "DELETE", "path": "/collections/", "action": "drop", "after": True})
    operator = DSSDeleteCollectionOperator(task_id="t", collection_uuid=collection)
    assert operator.execute(new_context())["deleted"] is True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collection_uuid": "x"}, "collection_uuid must be a UUID"),
        ({"replica": "azure"}, "replica must be 'aws' or 'gcp'"),
    ],
)
def test_delete_with_invalid_arguments_fails_without_retries(
    collection: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        DSSDeleteCollectionOperator(task_id="t", **{"collection_uuid": collection, **change}).execute(new_context())


def test_delete_of_another_owners_collection_is_refused(dss: LocalDSS) -> None:
    uuid = new_uuid()
    owner = put_by_another_user(dss, uuid)
    with pytest.raises(AirflowFailException, match="500 forbidden"):
        DSSDeleteCollectionOperator(task_id="t", collection_uuid=uuid).execute(new_context())
    assert owner.call("GET", f"/collections/{uuid}", replica="aws").status_code == 200
