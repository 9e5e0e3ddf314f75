"""What the client promises, on both transports, against a running DSS."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import ServiceAccountKey, StaticToken, UserToken
from airflow_provider_hca.client.retry import Auth, RetryPolicy
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSConflictError,
    DSSConnectionError,
    DSSCopyError,
    DSSCredentialsError,
    DSSNotFoundError,
    DSSProtocolError,
    DSSResponseError,
)
from tests.local.server import VERSION, LocalDSS, new_uuid, sums

from .contract import LARGE, LATER, QUICK, counted, fault, fresh, key_of, member, some_file, stage
from .drivers import Run
from .server import Reply, Server

# Files


def test_a_file_is_registered_once(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A staged object becomes a file; the same PUT again, the uuid in upper case, finds it there."""
    content, uuid = fresh(), new_uuid()
    source = stage(dss, content)
    first = run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    again = run(api.put_file(uuid.upper(), VERSION, source_url=source, creator_uid=8008))
    assert (first.uuid, first.version, first.outcome) == (uuid, VERSION, "created")
    assert (again.uuid, again.version, again.outcome) == (uuid, VERSION, "identical")


def test_a_file_is_described(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """HEAD tells all that the DSS knows of a file, by its version and as the latest."""
    content, uuid = fresh(), new_uuid()
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=8008))
    found = run(api.head_file(uuid.upper(), replica="aws", version=VERSION))
    assert found == run(api.head_file(uuid, replica="aws"))
    assert (found.uuid, found.version, found.size, found.creator_uid) == (uuid, VERSION, len(content), 8008)
    assert found.content_type == "text/plain"
    expected = {name.removeprefix("hca-dss-"): value for name, value in sums(content).items()}
    assert {name: getattr(found, name) for name in expected} == expected


def test_the_latest_version_is_the_greatest(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """Without a version the latest file answers, whatever the order in which the versions came."""
    uuid = new_uuid()
    for version in (LATER, VERSION):
        run(api.put_file(uuid, version, source_url=stage(dss, fresh()), creator_uid=8008))
    assert run(api.head_file(uuid, replica="aws")).version == LATER


def test_a_file_that_is_not_there(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A file, a version or a replica that is not there is a DSSNotFoundError with a request id."""
    uuid = dss.new_file()
    for call in (
        api.head_file(new_uuid(), replica="aws"),
        api.head_file(uuid, replica="aws", version=LATER),
        api.head_file(uuid, replica="gcp"),
    ):
        with pytest.raises(DSSNotFoundError) as caught:
            run(call)
        assert caught.value.request_id
        assert caught.value.permanent


@pytest.mark.parametrize("what", ["content", "creator"])
def test_a_file_version_does_not_change(run: Run, api: DSSAPI, dss: LocalDSS, what: str) -> None:
    """Other content, or another creator, under the same version is a conflict."""
    uuid, source = new_uuid(), stage(dss, fresh())
    run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    other = stage(dss, fresh()) if what == "content" else source
    with pytest.raises(DSSConflictError) as caught:
        run(api.put_file(uuid, VERSION, source_url=other, creator_uid=8008 if what == "content" else 1))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (409, "file_already_exists", True)


@pytest.mark.parametrize(("sha1", "code"), [("", "missing_checksum"), ("XYZ", "invalid_checksum")])
def test_bad_checksums(run: Run, api: DSSAPI, dss: LocalDSS, sha1: str, code: str) -> None:
    """An object whose checksums are missing or badly formed is refused at once."""
    source = stage(dss, fresh(), **{"hca-dss-sha1": sha1})
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_file(new_uuid(), VERSION, source_url=source, creator_uid=8008))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (422, code, True)


def test_a_staged_object_that_is_gone(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """What a DSS answers 500 with `Retry-After` to ends soon, and the error names the object."""
    source, uuid = f"s3://{dss.bucket}/nowhere", new_uuid()
    with pytest.raises(DSSResponseError, match="Could not find s3://") as caught:
        run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    assert counted(dss, "PUT", f"/files/{uuid}") == {500: 1}  # it asks for a longer wait than there is time
    assert (caught.value.status, caught.value.retry_after) == (500, 10)
    assert caught.value.request_id


# Asynchronous copies


def test_a_large_file_is_waited_for(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A large file is copied later; waiting for it gives its metadata, and then the same PUT finds it there."""
    content, uuid = fresh(LARGE), new_uuid()
    source = stage(dss, content)
    assert run(api.put_file(uuid, VERSION, source_url=source, creator_uid=1)).outcome == "copying"
    digest = sums(content)["hca-dss-sha256"]
    found = run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    assert (found.sha256, found.size) == (digest, LARGE)
    assert run(api.put_file(uuid, VERSION, source_url=source, creator_uid=1)).outcome == "identical"


def test_content_that_is_there_is_not_copied(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """Large content that the DSS has under another uuid is stored at once."""
    content, uuid = fresh(LARGE), new_uuid()
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=1))
    digest = sums(content)["hca-dss-sha256"]
    run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    assert run(api.put_file(new_uuid(), VERSION, source_url=stage(dss, content), creator_uid=1)).outcome == "created"


def test_an_asynchronous_conflict(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A copy that lost against other content, though its PUT answered 202, is a conflict."""
    uuid, wanted = new_uuid(), fresh(LARGE)
    run(api.put_file(uuid, VERSION, source_url=stage(dss, fresh()), creator_uid=1))
    assert run(api.put_file(uuid, VERSION, source_url=stage(dss, wanted), creator_uid=1)).outcome == "copying"
    digest = sums(wanted)["hca-dss-sha256"]
    with pytest.raises(DSSConflictError, match=digest):
        run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))


@pytest.mark.parametrize("status", [422, 500])
def test_a_copy_that_fails(run: Run, api: DSSAPI, dss: LocalDSS, status: int) -> None:
    """A copy that failed, which HEAD answers 422 or 500 to, is told as such."""
    content, uuid = fresh(LARGE), new_uuid()
    digest = sums(content)["hca-dss-sha256"]
    fault(dss, method="PUT", path=uuid, action="fail_copy", status=status)
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=1))
    with pytest.raises(DSSCopyError) as caught:
        run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    # 500 may also be a DSS in trouble, which passes.
    told = (uuid, "failed", True) if status == 422 else (uuid, "unclear", False)
    assert (caught.value.uuid, caught.value.reason, caught.value.permanent) == told


def test_a_copy_that_never_ends(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A copy that nothing is heard of ends at the deadline."""
    content, uuid = fresh(LARGE), new_uuid()
    digest = sums(content)["hca-dss-sha256"]
    fault(dss, method="PUT", path=uuid, action="fail_copy", status=404)
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=1))
    started = time.monotonic()
    with pytest.raises(DSSCopyError) as caught:
        run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=0.5))
    assert (caught.value.reason, caught.value.permanent) == ("deadline", False)
    assert time.monotonic() - started >= 0.5


# Bundles


def test_a_bundle_is_made_once(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """Files become a bundle, in their order; the same PUT again, uuids in upper case, finds it there."""
    files, uuid = [member(dss, "b"), member(dss, "a", indexed=True), member(dss, "\u00fc/x y")], new_uuid()
    loud = [file | {"uuid": file["uuid"].upper(), "size": 7} for file in files]
    first = run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=8008, files=files))
    again = run(api.put_bundle(uuid.upper(), VERSION, replica="aws", creator_uid=8008, files=loud))
    assert (first.uuid, first.version, first.outcome) == (uuid, VERSION, "created")
    assert (again.uuid, again.version, again.outcome) == (uuid, VERSION, "identical")
    found = run(api.get_bundle(uuid, replica="aws"))
    assert (found["uuid"], found["version"], found["creator_uid"]) == (uuid, VERSION, 8008)
    assert [{name: file[name] for name in files[0]} for file in found["files"]] == files


@pytest.mark.parametrize("change", ["order", "indexed", "creator"])
def test_a_bundle_version_does_not_change(run: Run, api: DSSAPI, dss: LocalDSS, change: str) -> None:
    """Anything else under the same version is a conflict, and nothing is taken for stored."""
    files, uuid = [member(dss, "a"), member(dss, "b")], new_uuid()
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=8008, files=files))
    other = {
        "order": files[::-1],
        "indexed": [files[0] | {"indexed": True}, files[1]],
        "creator": files,
    }[change]
    creator = 1 if change == "creator" else 8008
    with pytest.raises(DSSConflictError) as caught:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=creator, files=other))
    assert (caught.value.code, caught.value.permanent) == ("bundle_already_exists", True)


def test_a_bundle_of_a_missing_file(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A file that is not there (yet) is an error that a later try may turn, told after one PUT."""
    uuid = new_uuid()
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=[member(dss, uuid=new_uuid())]))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "file_missing", False)
    assert counted(dss, "PUT", f"/bundles/{uuid}") == {400: 1}


def test_a_bundle_with_a_name_twice(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """Two files of one name are refused by the DSS."""
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(new_uuid(), VERSION, replica="aws", creator_uid=1, files=[member(dss), member(dss)]))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "duplicate_filename", True)


def test_a_large_bundle_comes_in_pages(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A manifest of more files than a page holds comes whole and in order, and is found by its first page."""
    file, uuid = some_file(dss), new_uuid()
    names = [f"{number:04}.txt" for number in range(1001)]
    files = [dss.entry(name, file) for name in names]
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    assert [found["name"] for found in run(api.get_bundle(uuid, replica="aws"))["files"]] == names
    assert counted(dss, "GET", f"/bundles/{uuid}") == {206: 2, 200: 1}
    assert run(api.find_bundle(uuid, replica="aws")) == VERSION


def test_a_bundle_that_is_not_there(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A bundle that is not there, in that version or replica, is an error to `get` and None to `find`."""
    uuid = new_uuid()
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=[member(dss)]))
    for replica, version in (("gcp", None), ("aws", LATER)):
        with pytest.raises(DSSNotFoundError) as caught:
            run(api.get_bundle(uuid, replica=replica, version=version))
        assert caught.value.code == "not_found"
        assert run(api.find_bundle(uuid, replica=replica, version=version)) is None


def test_the_latest_bundle(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """Without a version the greatest answers."""
    uuid, files = new_uuid(), [member(dss)]
    for version in (LATER, VERSION):
        run(api.put_bundle(uuid, version, replica="aws", creator_uid=1, files=files))
    assert run(api.find_bundle(uuid, replica="aws")) == LATER
    assert run(api.find_bundle(uuid.upper(), replica="aws", version=VERSION)) == VERSION
    assert run(api.get_bundle(uuid, replica="aws", version=VERSION))["version"] == VERSION


def test_bundles_are_listed_by_prefix(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """All bundles with a prefix, in whatever case, are listed page by page."""
    prefix, files = new_uuid()[:8], [member(dss)]
    uuids = sorted(prefix + new_uuid()[8:] for _ in range(10))
    for uuid in uuids:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    found = run(api.get_bundles_all(replica="aws", prefix=prefix.upper(), per_page=10))
    assert found == [{"uuid": uuid, "version": VERSION} for uuid in uuids]
    assert counted(dss, "GET", "/bundles/all") == {206: 1, 200: 1}
    assert run(api.get_bundles_all(replica="gcp", prefix=prefix)) == []


# Tokens


def test_checks(run: Run, api: DSSAPI) -> None:
    """A DSS that is there and takes the token passes both checks."""
    run(api.check_reachable())
    run(api.check_token())


Case = tuple[Callable[[LocalDSS], Auth | None], int, str]
CASES: dict[str, Case] = {
    "none": (lambda _: None, 401, "OAuthProblem"),
    "undecodable": (lambda _: StaticToken("not.a.s3cr3t"), 401, "Unauthorized"),
    "expired": (lambda dss: StaticToken(dss.token(expires_in=-60)), 401, "Unauthorized"),
    "audience": (lambda dss: ServiceAccountKey(key_of(dss), audience="https://x.example/"), 401, "Unauthorized"),
    "no slash": (
        lambda dss: ServiceAccountKey(key_of(dss), audience=dss.about["audience"].rstrip("/")),
        401,
        "Unauthorized",
    ),
    "issuer": (lambda dss: StaticToken(dss.token(claims={"iss": "https://x.example/"})), 403, "Forbidden"),
    "group": (lambda dss: ServiceAccountKey(key_of(dss), group="other"), 403, "Forbidden"),
    "scope": (lambda dss: StaticToken(dss.token(claims={"scope": None})), 500, "InternalServerError"),
    "kid": (lambda dss: StaticToken(dss.token(kid="other")), 500, "InternalServerError"),
}


@pytest.mark.parametrize("case", CASES)
def test_tokens_that_a_dss_refuses(run: Run, dss: LocalDSS, case: str) -> None:
    """Whatever is wrong with a token is told with status and code, changes nothing, and shows no token."""
    make, status, code = CASES[case]
    auth, uuid = make(dss), new_uuid()
    api = DSSAPI(dss.url, auth=auth, retry=QUICK)
    calls: list[Call[Any]] = [
        api.check_token(),
        api.put_file(uuid, VERSION, source_url=f"s3://{dss.bucket}/key", creator_uid=1),
    ]
    for call in calls:
        with pytest.raises(DSSResponseError) as caught:
            run(call)
        assert (caught.value.status, caught.value.code) == (status, code)
        assert isinstance(caught.value, DSSAuthError) is (status < 500)
        assert "s3cr3t" not in str(caught.value)
        assert "eyJ" not in str(caught.value)
    run(api.check_reachable())
    with pytest.raises(DSSNotFoundError):
        run(api.head_file(uuid, replica="aws"))


def test_a_refused_token_is_renewed(run: Run, dss: LocalDSS) -> None:
    """One 401 in the middle of the work is answered with another token."""
    made: list[str] = []
    auth = ServiceAccountKey(key_of(dss), audience=dss.about["audience"], on_token=made.append)
    uuid = new_uuid()
    fault(dss, method="PUT", path=uuid, status=401)
    call = DSSAPI(dss.url, auth=auth, retry=QUICK).put_file(
        uuid, VERSION, source_url=stage(dss, fresh()), creator_uid=1
    )
    assert run(call).outcome == "created"
    assert len(made) == 2
    assert counted(dss, "PUT", f"/files/{uuid}") == {401: 1, 201: 1}


def test_reads_need_no_token(run: Run, dss: LocalDSS) -> None:
    """Files and bundles are read without credentials."""
    uuid = dss.new_file()
    assert run(DSSAPI(dss.url).head_file(uuid, replica="aws")).uuid == uuid


def test_a_users_token_is_refreshed(run: Run, dss: LocalDSS) -> None:
    """A user's refresh token gives a token that the DSS takes; one that expired is replaced after its 401."""
    made: list[str] = []
    old = dss.token(user=True, expires_in=-60)
    for token, refreshed in ((old, 1), ("", 1), (dss.token(user=True), 0)):
        made.clear()
        auth = UserToken(**dss.about["oauth2"], token=token, on_token=made.append)
        run(DSSAPI(dss.url, auth=auth, retry=QUICK).check_token())
        assert len([each for each in made if each.startswith("eyJ")]) == refreshed


@pytest.mark.parametrize("name", ["refresh_token", "client_secret", "client_id"])
def test_a_refresh_that_is_refused(run: Run, dss: LocalDSS, name: str) -> None:
    """A refresh that the OAuth2 server refuses is a failure of the credentials, and nothing is sent to the DSS."""
    auth = UserToken(**dss.about["oauth2"] | {name: "s3cr3t"})
    with pytest.raises(DSSCredentialsError, match=r"answered 40[01] when") as caught:
        run(DSSAPI(dss.url, auth=auth, retry=QUICK).check_token())
    assert caught.value.permanent
    assert "s3cr3t" not in str(caught.value)
    assert counted(dss, "GET", "/collections") == {}


def test_many_threads_share_one_token(dss: LocalDSS) -> None:
    """Many uploads at once sign one token and each do their work."""
    made: list[str] = []
    auth = ServiceAccountKey(key_of(dss), audience=dss.about["audience"], on_token=made.append)
    api, outcomes = DSSAPI(dss.url, auth=auth, retry=QUICK), []
    sources = [stage(dss, fresh()) for _ in range(8)]
    with RequestsTransport(pool_size=8) as transport:

        def work(source: str) -> None:
            outcomes.append(transport.run(api.put_file(new_uuid(), VERSION, source_url=source, creator_uid=1)).outcome)

        threads = [threading.Thread(target=work, args=(source,)) for source in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == ["created"] * 8
    assert len(made) == 1


# Troubles


@pytest.mark.parametrize("status", [429, 503, 504])
def test_troubles_that_pass(run: Run, api: DSSAPI, dss: LocalDSS, status: int) -> None:
    """Two failures of the service are ridden out, on a write and on a read."""
    uuid = new_uuid()
    fault(dss, path=uuid, status=status, times=2)
    assert run(api.put_file(uuid, VERSION, source_url=stage(dss, fresh()), creator_uid=1)).outcome == "created"
    fault(dss, path=uuid, status=status, times=2)
    assert run(api.head_file(uuid, replica="aws")).uuid == uuid
    assert counted(dss, "PUT", f"/files/{uuid}") == {status: 2, 201: 1}
    assert counted(dss, "HEAD", f"/files/{uuid}") == {status: 2, 200: 1}


def test_troubles_that_stay(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A service that stays down is told after the attempts there are, with its code and request id."""
    fault(dss, path="/bundles/all", status=503, times=3)
    with pytest.raises(DSSResponseError) as caught:
        run(api.get_bundles_all(replica="aws", prefix="00"))
    assert (caught.value.status, caught.value.code) == (503, "read_only")
    assert caught.value.request_id
    assert counted(dss, "GET", "/bundles/all") == {503: 3}


def test_slow_down(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """429 with `Retry-After` is waited for as long as it asks."""
    fault(dss, path="/collections", status=429, retry_after=1)
    started = time.monotonic()
    run(api.check_token())
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("after", [False, True])
def test_dropped_connections(run: Run, api: DSSAPI, dss: LocalDSS, after: bool) -> None:
    """A connection that is dropped before or after the work was done does not make it fail, nor be done twice."""
    uuid, source = new_uuid(), stage(dss, fresh())
    fault(dss, method="PUT", path=uuid, action="drop", after=after)
    done = run(api.put_file(uuid, VERSION, source_url=source, creator_uid=1))
    assert done.outcome == ("identical" if after else "created")


def test_connections_that_are_always_dropped(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A service that drops every connection is told as that."""
    fault(dss, path="/bundles/all", action="drop", times=20)
    with pytest.raises(DSSConnectionError) as caught:
        run(api.get_bundles_all(replica="aws", prefix="00"))
    assert (caught.value.kind, caught.value.path) == ("dropped", "/v1/bundles/all")


def test_slow_answers(run: Run, dss: LocalDSS) -> None:
    """An answer that does not come in time is asked for again."""
    uuid = some_file(dss)
    # Two seconds are enough for an answer on a busy machine too.
    api = DSSAPI(dss.url, retry=RetryPolicy(attempts=2, seconds=120, first_delay=0.02), read_timeout=2)
    fault(dss, path=uuid, action="slow", seconds=2.5)
    assert run(api.head_file(uuid, replica="aws")).uuid == uuid
    api = DSSAPI(dss.url, retry=QUICK, read_timeout=0.2)
    fault(dss, path=uuid, action="slow", seconds=1, times=3)
    with pytest.raises(DSSConnectionError) as caught:
        run(api.head_file(uuid, replica="aws"))
    assert caught.value.kind == "read timeout"


def test_a_bundle_that_is_stored_behind_a_504(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A bundle that the DSS stored, although every PUT was answered 504, is a success."""
    uuid, files = new_uuid(), [member(dss, "a"), member(dss, "b")]
    fault(dss, method="PUT", path=uuid, status=504, after=True, times=3)
    assert run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files)).outcome == "created"
    assert counted(dss, "PUT", f"/bundles/{uuid}") == {504: 3}


def test_another_bundle_behind_a_504(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A bundle that differs from what was sent is not taken for it."""
    uuid, files = new_uuid(), [member(dss, "a"), member(dss, "b")]
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    fault(dss, method="PUT", path=uuid, status=504, times=3)
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files[::-1]))
    assert (caught.value.status, caught.value.code) == (504, "timed_out")


def test_no_bundle_behind_a_504(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A bundle that was not stored is told with the 504."""
    uuid, files = new_uuid(), [member(dss)]
    fault(dss, method="PUT", path=uuid, status=504, times=3)
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    assert caught.value.status == 504


# Something else than a DSS


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, [("Content-Type", "text/html")], b"<html>Welcome</html>"),
        Reply(200, [("Content-Type", "application/json")], json.dumps({"hello": "world"}).encode()),
        Reply(200, [], b""),
        Reply(302, [("Location", "/v1/bundles/all")], b""),
    ],
)
def test_a_server_that_is_no_dss(run: Run, server: Server, reply: Reply) -> None:
    """A web server that is no DSS is told apart from one."""
    server.replies = [reply]
    with pytest.raises(DSSProtocolError) as caught:
        run(DSSAPI(server.url, retry=QUICK).check_reachable())
    assert caught.value.permanent


def test_a_web_server_without_a_dss(run: Run, server: Server) -> None:
    """A 404 in HTML is told with its title."""
    server.replies = [Reply(404, [("Content-Type", "text/html")], b"<html><title>Not here</title></html>")]
    with pytest.raises(DSSProtocolError, match="404: Not here"):
        run(DSSAPI(server.url, retry=QUICK).check_reachable())


def test_the_wrong_path_on_a_dss(run: Run, dss: LocalDSS) -> None:
    """A base path that the DSS does not have is told from a token that is refused, although both answer 403."""
    with pytest.raises(DSSProtocolError, match="does the address have the base path"):
        run(DSSAPI(dss.url.replace("/v1", "/v2"), retry=QUICK).check_reachable())


def test_a_dss_that_moved(run: Run, server: Server, dss: LocalDSS, dss_auth: Auth) -> None:
    """Reads follow a redirect to another host, without the token; writes say which address to use."""
    uuid = dss.new_file()
    server.replies = [Reply(301, [("Location", f"{dss.url}/files/{uuid}?replica=aws")])]
    api = DSSAPI(server.url, auth=dss_auth, retry=QUICK)
    assert run(api.head_file(uuid, replica="aws")).uuid == uuid
    with pytest.raises(DSSProtocolError, match=f"redirected to {dss.url.removesuffix('/v1')}; write to that address"):
        run(api.put_file(uuid, VERSION, source_url=stage(dss, fresh()), creator_uid=1))
    server.replies = [Reply(302, [("Location", f"{dss.url}/collections")])]
    with pytest.raises(DSSProtocolError, match="write to that address"):
        run(api.check_token())
    assert counted(dss, "GET", "/collections") == {401: 1}  # it came there without the token


@pytest.mark.parametrize(
    ("url", "kind"), [("http://no-such-host.invalid/v1", "dns"), ("http://127.0.0.1:1/v1", "refused")]
)
def test_no_server_at_all(run: Run, url: str, kind: str) -> None:
    """A host that is not there, or does not listen, is told as that after the attempts there are."""
    with pytest.raises(DSSConnectionError) as caught:
        run(DSSAPI(url, retry=QUICK).check_reachable())
    assert caught.value.kind == kind
