"""The operators that put, change and delete collections."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
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
STRANGE = "another owner, whom the DSS does not name"


@pytest.fixture(scope="module")
def numbers(shared_dss: LocalDSS) -> str:
    """Give the uuid of a JSON file with many things to link to."""
    return shared_dss.new_file(json.dumps([*range(2000)]).encode())


def links(numbers: str, wanted: Iterable[int]) -> list[dict[str, Any]]:
    return [{"type": "number", "uuid": numbers, "version": VERSION, "fragment": f"/{each}"} for each in wanted]


def found(uuid: str, version: str | None = None) -> dict[str, Any]:
    """Return a collection of the developer's."""
    with DSSHook() as hook:
        return hook.get_collection(uuid, replica="aws", version=version)


def put(**options: Any) -> DSSPutCollectionOperator:
    return DSSPutCollectionOperator(**{"task_id": "put", "name": "n", "description": "d", **options})


def theirs(dss: LocalDSS, uuid: str, version: str = VERSION, **changes: Any) -> User:
    """Have somebody else put a collection; return who."""
    user = User(dss)
    body = {"name": "n", "description": "d", "details": {}, "contents": [], **changes}
    assert user.call("PUT", "/collections", body, uuid=uuid, version=version, replica="aws").status_code == 201
    return user


# Putting


def test_a_collection_of_what_a_run_made(dss: LocalDSS, numbers: str) -> None:
    """A collection links to what other tasks made; its uuid derives from the task, its version from the run."""
    with new_dag("put_collection", params={"what": "cells"}) as dag:
        bundle = DSSPutBundleOperator(task_id="bundle", files=[dss.entry("a", numbers)])
        item = {"type": "bundle", "uuid": output(bundle, "uuid"), "version": output(bundle, "version")}
        put(
            name="{{ params.what }} of {{ ds }}",
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
    collection = found(result["uuid"], RUN_VERSION)
    assert (collection["name"], collection["details"]) == ("cells of 2026-03-01", {"run": dag_run.run_id})
    bundle_item = {"type": "bundle", "uuid": xcom(dag_run, "bundle", "uuid"), "version": RUN_VERSION}
    assert collection["contents"] == [bundle_item, *links(numbers, [1, 2])]


def test_the_same_run_again_changes_nothing(dss: LocalDSS, numbers: str) -> None:
    """A collection that is there as it is wanted, and ours, is a success without another PUT."""
    context = new_context()
    operator = put(contents=links(numbers, [2, 1, 2]), details={"a": [1, None]})
    first, second = operator.execute(context), operator.execute(next_try(context))
    assert second == {**first, "created": False}
    assert requests_of(dss, "PUT", "/v1/collections") == 1


def test_a_retry_after_an_answer_that_was_lost(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A try whose PUT was done and not answered is followed by one that finds it done."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, retry_seconds=0))
    dss.control("POST", "faults", {"method": "PUT", "path": "/collections", "action": "drop", "after": True})
    context = new_context()
    assert ending(put(), context) == "up_for_retry"
    assert put().execute(next_try(context))["created"] is False
    assert requests_of(dss, "PUT", "/v1/collections") == 1


def test_another_run_makes_another_version_of_a_given_collection(dss: LocalDSS) -> None:
    """A further version of a collection of one's own overwrites nothing, and is made."""
    uuid = new_uuid()
    first = put(collection_uuid=uuid.upper(), description="first").execute(new_context())
    later = new_context(logical_date=LOGICAL_DATE + timedelta(days=1))
    second = put(collection_uuid=uuid.upper(), description="second").execute(later)
    assert (first["uuid"], second["uuid"], second["created"]) == (uuid, uuid, True)
    assert first["version"] < second["version"]
    assert found(uuid, first["version"])["description"] == "first"
    assert found(uuid)["description"] == "second"


@pytest.mark.parametrize(
    "change", [{"name": "x"}, {"description": "x"}, {"details": {"x": 1}}, {"contents": []}], ids=str
)
def test_something_else_is_not_overwritten(dss: LocalDSS, numbers: str, change: dict[str, Any]) -> None:
    """A version that has something else in it fails at once, names its owner, and stays as it is."""
    uuid = new_uuid()
    options = {"collection_uuid": uuid, "collection_version": VERSION, "contents": links(numbers, [1])}
    put(**options).execute(new_context())
    before = found(uuid)
    with pytest.raises(Exception, match="exists with other content; it belongs to you") as caught:
        put(**{**options, **change}).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert f"collection {uuid}.{VERSION} exists" in str(caught.value)
    assert f"belongs to you ({before['owner']}). Nothing was overwritten: use another collection_version" in str(
        caught.value
    )
    assert found(uuid) == before


def test_skipping_and_overwriting_what_is_mine(dss: LocalDSS, numbers: str) -> None:
    """`skip` leaves what is there and succeeds, `overwrite` puts."""
    options = {"collection_uuid": new_uuid(), "collection_version": VERSION}
    put(**options).execute(new_context())
    skipped = put(**options, name="x", if_exists="skip", contents=links(numbers, [1])).execute(new_context())
    assert (skipped["version"], skipped["item_count"], skipped["created"]) == (VERSION, 0, False)
    assert found(options["collection_uuid"])["name"] == "n"
    overwritten = put(**options, name="x", if_exists="overwrite").execute(new_context())
    assert (overwritten["version"], overwritten["created"]) == (VERSION, True)
    assert found(options["collection_uuid"])["name"] == "x"


@pytest.mark.parametrize("version", [VERSION, LATER])
def test_what_is_somebody_elses(dss: LocalDSS, version: str) -> None:
    """Another's collection, in that version or another one, is neither overwritten nor taken over, unless told to."""
    uuid = new_uuid()
    owner = theirs(dss, uuid)
    options = {"collection_uuid": uuid, "collection_version": version}
    which = f"{uuid}.{VERSION}" if version == VERSION else uuid
    with pytest.raises(Exception, match=f"collection {which} exists and belongs to {STRANGE}. Nothing was ") as caught:
        put(**options).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert "use another collection_uuid; or set if_exists='skip'" in str(caught.value)
    skipped = put(**options, if_exists="skip").execute(new_context())
    expected = (version, f"{uuid}.{version}", False) if version == VERSION else (None, None, False)
    assert (skipped["version"], skipped["fqid"], skipped["created"]) == expected
    assert skipped["item_count"] is None
    assert owner.call("GET", f"/collections/{uuid}", replica="aws").json()["owner"] == owner.email
    assert put(**options, if_exists="overwrite").execute(new_context())["created"]
    assert found(uuid)["owner"] != owner.email


@pytest.mark.parametrize("same", [True, False])
def test_a_dss_that_shows_what_others_have(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    """Where a DSS lets everybody read, the error names the owner, also when the content is the same."""
    uuid = new_uuid()
    collection: dict[str, Any] = {"name": "n", "description": "d" if same else "x", "details": {}, "contents": []}
    answers: list[Any] = [{**collection, "owner": "she@example.org"}, {"collections": []}]
    with Server([Reply(body=json.dumps(each).encode()) for each in answers]) as server:
        settings = {"conn_type": "hca_dss", "host": server.url, "password": "a.b.c"}
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps(settings))
        with pytest.raises(Exception, match=r"exists and belongs to she@example\.org\. Nothing was overwritten"):
            put(collection_uuid=uuid, collection_version=VERSION).execute(new_context())
        assert [asked.method for asked in server.asked] == ["GET", "GET"]


def test_a_dss_that_makes_a_500_of_its_403(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a DSS really answers to those who ask for another's collection is taken for that, and not tried again."""
    refused = Reply(500, body=refusal().body)
    with Server([refused, Reply(body=b'{"collections": []}')]) as server:
        settings = {"conn_type": "hca_dss", "host": server.url, "password": "a.b.c"}
        monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", json.dumps(settings))
        with pytest.raises(Exception, match=f"exists and belongs to {STRANGE}"):
            put(collection_uuid=new_uuid(), collection_version=VERSION).execute(new_context())
        assert [asked.method for asked in server.asked] == ["GET", "GET"]


def test_a_refused_token_is_no_stranger(dss: LocalDSS, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 403 for want of the group is told as what it is, and not taken for somebody else's collection."""
    monkeypatch.setenv("AIRFLOW_CONN_HCA_DSS_DEFAULT", connection(dss, group="other"))
    with pytest.raises(Exception, match=r"403 Forbidden: .*'group' in its extra"):
        put(if_exists="skip").execute(new_context())


def test_a_uuid_that_was_deleted(dss: LocalDSS) -> None:
    """A DSS hides for ever what is put under a deleted uuid, so that is no success."""
    options = {"collection_uuid": new_uuid(), "collection_version": VERSION}
    put(**options).execute(new_context())
    DSSDeleteCollectionOperator(task_id="t", collection_uuid=options["collection_uuid"]).execute(new_context())
    with pytest.raises(Exception, match=r"was deleted.*use another collection_uuid") as caught:
        put(**options).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collection_uuid": "x"}, "collection_uuid must be a uuid"),
        ({"collection_version": "2026"}, "collection_version must be a DSS_VERSION"),
        ({"replica": "azure"}, "replica must be one of aws, gcp"),
        ({"if_exists": "maybe"}, "if_exists must be one of fail, skip, overwrite, got 'maybe'"),
        ({"contents": "[]"}, "contents must be a list"),
        ({"contents": [{"type": "file"}]}, "uuid, version is missing"),
        ({"contents": [{"type": "cell", "uuid": new_uuid(), "version": VERSION}]}, "needs a fragment"),
        ({"contents": [{"type": "file", "uuid": new_uuid(), "version": VERSION, "path": "/a"}]}, "path means nothing"),
        ({"details": "{}"}, "details must be a mapping"),
        ({"details": {"a": {1}}}, "cannot be encoded as JSON"),
        ({"name": None}, "name must be text, not None"),
        ({"description": 5}, "description must be text, not 5"),
    ],
)
def test_wrong_collections_send_nothing(dss: LocalDSS, change: dict[str, Any], message: str) -> None:
    """What no retry can mend fails at once, says why, and the DSS is not written to."""
    with pytest.raises(Exception, match=message) as caught:
        put(**change).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert requests_of(dss, "PUT", "/v1/") == 0


def test_more_links_than_one_put_takes(dss: LocalDSS, numbers: str) -> None:
    """More than 1,000 different links are refused before anything is sent, and the error says what takes them."""
    put(collection_uuid=new_uuid(), contents=links(numbers, [*range(1000), 0])).execute(new_context())
    dss.control("DELETE", "requests")
    with pytest.raises(Exception, match=r"at most 1,000 links, got 1,001: .* DSSPatchCollectionOperator"):
        put(contents=links(numbers, range(1001))).execute(new_context())
    assert dss.control("GET", "requests") == []


def test_a_link_that_leads_nowhere(dss: LocalDSS) -> None:
    """A link to what is not there fails at once, in the DSS's own words."""
    item = {"type": "bundle", "uuid": new_uuid(), "version": VERSION}
    with pytest.raises(Exception, match=f"422 invalid_link.*{item['uuid']}") as caught:
        put(collection_uuid=new_uuid(), contents=[item]).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"


# Changing


@pytest.fixture
def collection(dss: LocalDSS, numbers: str) -> str:
    """Give the uuid of a collection of one link."""
    uuid = new_uuid()
    put(collection_uuid=uuid, collection_version=VERSION, contents=links(numbers, [0])).execute(new_context())
    dss.control("DELETE", "requests")
    return uuid


def patch(uuid: str, **options: Any) -> DSSPatchCollectionOperator:
    return DSSPatchCollectionOperator(
        **{"task_id": "patch", "collection_uuid": uuid, "collection_version": VERSION, **options}
    )


def test_links_come_and_go(dss: LocalDSS, numbers: str, collection: str) -> None:
    """Links come and go, and what is said changes; the new version is told by XComs, the old one stays."""
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
    changed, old = found(collection, result["version"]), found(collection, VERSION)
    assert changed["contents"] == links(numbers, [2, 1])
    assert (changed["name"], changed["description"], changed["details"]) == ("changed on 2026-03-01", "d", {"b": 1})
    assert (old["contents"], old["name"]) == (links(numbers, [0]), "n")


def test_nothing_to_change(dss: LocalDSS, numbers: str, collection: str) -> None:
    """Where all is as wanted no version is made."""
    result = patch(collection, add_contents=links(numbers, [0]), description="d").execute(new_context())
    assert (result["version"], result["item_count"], result["created"]) == (VERSION, 1, False)
    assert result["statistics"] == {"patch_count": 0}
    assert requests_of(dss, "PATCH", "/v1/collections/") == 0


def stop_after_one(dss: LocalDSS, status: int) -> None:
    """Have the second PATCH refused, once."""
    patches = {"method": "PATCH", "path": "/collections/"}
    dss.control("POST", "faults", {**patches, "action": "slow", "seconds": 0, "times": 1})
    dss.control("POST", "faults", {**patches, "action": "status", "status": status})


def test_a_retry_goes_on(dss: LocalDSS, numbers: str, collection: str) -> None:
    """After a try that stopped in the middle the retry makes it right, and goes on where Airflow remembers it."""
    stop_after_one(dss, 408)
    with new_dag("patch_collection_retry") as dag:
        patch(collection, add_contents=links(numbers, range(1, 1002)), retries=1, retry_delay=timedelta(0))
    dag_run = run(dag)
    result = xcom(dag_run, "patch")
    assert (states(dag_run), tries(dag_run, "patch")) == ({"patch": "success"}, 2)
    assert found(collection, result["version"])["contents"] == links(numbers, range(1002))
    assert result["item_count"] == 1002
    assert result["statistics"]["patch_count"] == (1 if AIRFLOW_V_3_3_PLUS else 2)


def test_a_run_that_remembers_nothing(dss: LocalDSS, numbers: str, collection: str) -> None:
    """After a task that failed in the middle another run of it makes the same contents, from the beginning."""
    stop_after_one(dss, 422)
    operator = patch(collection, add_contents=links(numbers, range(1, 1002)))
    assert ending(operator) == "failed"
    result = operator.execute(new_context())
    assert found(collection, result["version"])["contents"] == links(numbers, range(1002))
    assert (result["item_count"], result["statistics"]["patch_count"]) == (1002, 2)


def test_what_airflow_remembers_of_another_collection(numbers: str, collection: str) -> None:
    """What was reached from another version, or in another collection, is not gone on from; nor is rubbish."""
    for kept in (
        {"from": f"aws/{collection}.{LATER}", "version": LATER},
        {"from": f"aws/{collection}.{VERSION}", "version": LATER},
        {"from": f"aws/{collection}.{VERSION}", "version": 5},
        "rubbish",
    ):
        context: Any = {**new_context(), "task_state_store": Remembered(kept)}
        result = patch(collection, add_contents=links(numbers, [1])).execute(context)
        assert found(collection, result["version"])["contents"] == links(numbers, [0, 1])
        assert context["task_state_store"].kept == {
            "from": f"aws/{collection}.{VERSION}",
            "version": result["version"],
        }


class Remembered:
    """Airflow's store of a task's state, of one thing."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def get(self, _: str) -> Any:
        """Return what is kept."""
        return self.kept

    def set(self, _: str, value: Any) -> None:
        """Keep something else."""
        self.kept = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"collection_uuid": "x"}, "collection uuid must be a uuid"),
        ({"collection_uuid": new_uuid()}, "404 not_found"),
        ({"collection_version": LATER}, "404 not_found"),
        ({"collection_version": None}, "collection version must be a DSS_VERSION"),
        ({"replica": "azure"}, "replica must be one of aws, gcp"),
        ({"add_contents": "[]"}, "add_contents must be a list"),
        ({"remove_contents": [5]}, "remove_contents must be a list of mappings, got the item 5"),
        ({"add_contents": [{"type": "file"}]}, "uuid, version is missing"),
        ({"details": []}, "details must be a mapping"),
        ({"name": 5}, "name must be text, not 5"),
    ],
)
def test_wrong_changes_spend_no_retry(dss: LocalDSS, collection: str, change: dict[str, Any], message: str) -> None:
    """What no retry can mend fails at once, says why, and no PATCH is sent."""
    with pytest.raises(Exception, match=message) as caught:
        patch(**{"uuid": collection, "name": "new", **change}).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert requests_of(dss, "PATCH", "/v1/") == 0


def test_only_the_owner_changes_it(dss: LocalDSS) -> None:
    """Another's collection fails at once, before a PATCH is sent."""
    uuid = new_uuid()
    theirs(dss, uuid)
    with pytest.raises(Exception, match="403 Forbidden") as caught:
        patch(uuid, name="mine").execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert requests_of(dss, "PATCH", "/v1/") == 0


# Deleting


def test_a_collection_is_deleted_once_and_again(dss: LocalDSS, collection: str) -> None:
    """A collection is deleted; what is deleted or was never there is as good as deleted, and told apart."""
    with new_dag("delete_collection", params={"uuid": collection}) as dag:
        first = DSSDeleteCollectionOperator(task_id="first", collection_uuid="{{ params.uuid | upper }}")
        first >> DSSDeleteCollectionOperator(task_id="again", collection_uuid=output(first, "uuid"))
    dag_run = run(dag)
    assert states(dag_run) == {"first": "success", "again": "success"}
    assert xcom(dag_run, "first") == {"uuid": collection, "replica": "aws", "deleted": True}
    assert xcom(dag_run, "again") == {"uuid": collection, "replica": "aws", "deleted": False}
    with DSSHook() as hook, pytest.raises(DSSNotFoundError):
        hook.get_collection(collection, replica="aws")


def test_a_deletion_whose_answer_was_lost(dss: LocalDSS, collection: str) -> None:
    """A deletion that was done and not answered has deleted it."""
    dss.control("POST", "faults", {"method": "DELETE", "path": "/collections/", "action": "drop", "after": True})
    operator = DSSDeleteCollectionOperator(task_id="t", collection_uuid=collection)
    assert operator.execute(new_context())["deleted"] is True


@pytest.mark.parametrize(
    ("change", "message"),
    [({"collection_uuid": "x"}, "collection_uuid must be a uuid"), ({"replica": "azure"}, "replica must be one of")],
)
def test_wrong_deletions_spend_no_retry(collection: str, change: dict[str, Any], message: str) -> None:
    """What is not well-formed fails at once."""
    with pytest.raises(Exception, match=message) as caught:
        DSSDeleteCollectionOperator(task_id="t", **{"collection_uuid": collection, **change}).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"


def test_only_the_owner_deletes_it(dss: LocalDSS) -> None:
    """Another's collection fails at once and stays."""
    uuid = new_uuid()
    owner = theirs(dss, uuid)
    with pytest.raises(Exception, match="403 Forbidden") as caught:
        DSSDeleteCollectionOperator(task_id="t", collection_uuid=uuid).execute(new_context())
    assert type(caught.value).__name__ == "AirflowFailException"
    assert owner.call("GET", f"/collections/{uuid}", replica="aws").status_code == 200
