"""Contract of the client, on both transports against a running DSS."""

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


def test_put_file_repeated_is_identical(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(), new_uuid()
    source = stage(dss, content)
    first = run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    again = run(api.put_file(uuid.upper(), VERSION, source_url=source, creator_uid=8008))
    assert (first.uuid, first.version, first.outcome) == (uuid, VERSION, "created")
    assert (again.uuid, again.version, again.outcome) == (uuid, VERSION, "identical")


def test_head_file_returns_metadata_of_version_and_latest(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(), new_uuid()
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=8008))
    found = run(api.head_file(uuid.upper(), replica="aws", version=VERSION))
    assert found == run(api.head_file(uuid, replica="aws"))
    assert (found.uuid, found.version, found.size, found.creator_uid) == (uuid, VERSION, len(content), 8008)
    assert found.content_type == "text/plain"
    expected = {name.removeprefix("hca-dss-"): value for name, value in sums(content).items()}
    assert {name: getattr(found, name) for name in expected} == expected


def test_head_file_without_version_returns_greatest(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = new_uuid()
    for version in (LATER, VERSION):
        run(api.put_file(uuid, version, source_url=stage(dss, fresh()), creator_uid=8008))
    assert run(api.head_file(uuid, replica="aws")).version == LATER


def test_head_file_of_missing_file_is_not_found_with_request_id(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
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
def test_put_file_with_other_content_or_creator_is_conflict(run: Run, api: DSSAPI, dss: LocalDSS, what: str) -> None:
    uuid, source = new_uuid(), stage(dss, fresh())
    run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    other = stage(dss, fresh()) if what == "content" else source
    with pytest.raises(DSSConflictError) as caught:
        run(api.put_file(uuid, VERSION, source_url=other, creator_uid=8008 if what == "content" else 1))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (409, "file_already_exists", True)


@pytest.mark.parametrize(("sha1", "code"), [("", "missing_checksum"), ("XYZ", "invalid_checksum")])
def test_put_file_with_missing_or_malformed_checksums_is_refused(
    run: Run, api: DSSAPI, dss: LocalDSS, sha1: str, code: str
) -> None:
    source = stage(dss, fresh(), **{"hca-dss-sha1": sha1})
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_file(new_uuid(), VERSION, source_url=source, creator_uid=8008))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (422, code, True)


def test_put_file_of_missing_object_ends_soon_and_names_it(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    """A DSS answers 500 with `Retry-After`."""
    source, uuid = f"s3://{dss.bucket}/nowhere", new_uuid()
    with pytest.raises(DSSResponseError, match="Could not find s3://") as caught:
        run(api.put_file(uuid, VERSION, source_url=source, creator_uid=8008))
    assert counted(dss, "PUT", f"/files/{uuid}") == {500: 1}  # it asks for a longer wait than there is time
    assert (caught.value.status, caught.value.retry_after) == (500, 10)
    assert caught.value.request_id


# Asynchronous copies


def test_large_file_is_copied_asynchronously_and_then_identical(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(LARGE), new_uuid()
    source = stage(dss, content)
    assert run(api.put_file(uuid, VERSION, source_url=source, creator_uid=1)).outcome == "copying"
    digest = sums(content)["hca-dss-sha256"]
    found = run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    assert (found.sha256, found.size) == (digest, LARGE)
    assert run(api.put_file(uuid, VERSION, source_url=source, creator_uid=1)).outcome == "identical"


def test_large_file_with_known_content_is_stored_at_once(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    content, uuid = fresh(LARGE), new_uuid()
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=1))
    digest = sums(content)["hca-dss-sha256"]
    run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    assert run(api.put_file(new_uuid(), VERSION, source_url=stage(dss, content), creator_uid=1)).outcome == "created"


def test_asynchronous_copy_of_other_content_is_conflict(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid, wanted = new_uuid(), fresh(LARGE)
    run(api.put_file(uuid, VERSION, source_url=stage(dss, fresh()), creator_uid=1))
    assert run(api.put_file(uuid, VERSION, source_url=stage(dss, wanted), creator_uid=1)).outcome == "copying"
    digest = sums(wanted)["hca-dss-sha256"]
    with pytest.raises(DSSConflictError, match=digest):
        run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))


@pytest.mark.parametrize("status", [422, 500])
def test_failed_copy_is_copy_error(run: Run, api: DSSAPI, dss: LocalDSS, status: int) -> None:
    content, uuid = fresh(LARGE), new_uuid()
    digest = sums(content)["hca-dss-sha256"]
    fault(dss, method="PUT", path=uuid, action="fail_copy", status=status)
    run(api.put_file(uuid, VERSION, source_url=stage(dss, content), creator_uid=1))
    with pytest.raises(DSSCopyError) as caught:
        run(api.wait_for_file(uuid, VERSION, replica="aws", sha256=digest, seconds=60))
    # 500 may also be a DSS in trouble, which passes.
    metadata = (uuid, "failed", True) if status == 422 else (uuid, "unclear", False)
    assert (caught.value.uuid, caught.value.reason, caught.value.permanent) == metadata


def test_endless_copy_ends_at_the_deadline(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
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


def test_put_bundle_repeated_is_identical(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
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
def test_put_bundle_with_other_content_is_conflict(run: Run, api: DSSAPI, dss: LocalDSS, change: str) -> None:
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


def test_put_bundle_with_missing_file_is_temporary_error_after_one_put(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = new_uuid()
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=[member(dss, uuid=new_uuid())]))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "file_missing", False)
    assert counted(dss, "PUT", f"/bundles/{uuid}") == {400: 1}


def test_put_bundle_with_duplicate_name_is_refused(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(new_uuid(), VERSION, replica="aws", creator_uid=1, files=[member(dss), member(dss)]))
    assert (caught.value.status, caught.value.code, caught.value.permanent) == (400, "duplicate_filename", True)


def test_get_bundle_joins_pages_in_order(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    file, uuid = some_file(dss), new_uuid()
    names = [f"{number:04}.txt" for number in range(1001)]
    files = [dss.entry(name, file) for name in names]
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    assert [found["name"] for found in run(api.get_bundle(uuid, replica="aws"))["files"]] == names
    assert counted(dss, "GET", f"/bundles/{uuid}") == {206: 2, 200: 1}
    assert run(api.find_bundle(uuid, replica="aws")) == VERSION


def test_missing_bundle_is_not_found_by_get_and_none_by_find(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid = new_uuid()
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=[member(dss)]))
    for replica, version in (("gcp", None), ("aws", LATER)):
        with pytest.raises(DSSNotFoundError) as caught:
            run(api.get_bundle(uuid, replica=replica, version=version))
        assert caught.value.code == "not_found"
        assert run(api.find_bundle(uuid, replica=replica, version=version)) is None


def test_get_bundle_without_version_returns_greatest(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid, files = new_uuid(), [member(dss)]
    for version in (LATER, VERSION):
        run(api.put_bundle(uuid, version, replica="aws", creator_uid=1, files=files))
    assert run(api.find_bundle(uuid, replica="aws")) == LATER
    assert run(api.find_bundle(uuid.upper(), replica="aws", version=VERSION)) == VERSION
    assert run(api.get_bundle(uuid, replica="aws", version=VERSION))["version"] == VERSION


def test_get_bundles_all_lists_pages_of_prefix_in_any_case(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    prefix, files = new_uuid()[:8], [member(dss)]
    uuids = sorted(prefix + new_uuid()[8:] for _ in range(10))
    for uuid in uuids:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    found = run(api.get_bundles_all(replica="aws", prefix=prefix.upper(), per_page=10))
    assert found == [{"uuid": uuid, "version": VERSION} for uuid in uuids]
    assert counted(dss, "GET", "/bundles/all") == {206: 1, 200: 1}
    assert run(api.get_bundles_all(replica="gcp", prefix=prefix)) == []


# Tokens


def test_checks_pass_for_a_dss_that_accepts_the_token(run: Run, api: DSSAPI) -> None:
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
def test_refused_token_is_auth_error_without_token(run: Run, dss: LocalDSS, case: str) -> None:
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


def test_token_is_renewed_after_401(run: Run, dss: LocalDSS) -> None:
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


def test_files_and_bundles_are_read_without_token(run: Run, dss: LocalDSS) -> None:
    uuid = dss.new_file()
    assert run(DSSAPI(dss.url).head_file(uuid, replica="aws")).uuid == uuid


def test_user_token_is_refreshed_at_first_and_after_401(run: Run, dss: LocalDSS) -> None:
    made: list[str] = []
    old = dss.token(user=True, expires_in=-60)
    for token, refreshed in ((old, 1), ("", 1), (dss.token(user=True), 0)):
        made.clear()
        auth = UserToken(**dss.about["oauth2"], token=token, on_token=made.append)
        run(DSSAPI(dss.url, auth=auth, retry=QUICK).check_token())
        assert len([each for each in made if each.startswith("eyJ")]) == refreshed


@pytest.mark.parametrize("name", ["refresh_token", "client_secret", "client_id"])
def test_refused_refresh_is_credentials_error_without_request_to_the_dss(run: Run, dss: LocalDSS, name: str) -> None:
    auth = UserToken(**dss.about["oauth2"] | {name: "s3cr3t"})
    with pytest.raises(DSSCredentialsError, match=r"answered 40[01] to the refresh") as caught:
        run(DSSAPI(dss.url, auth=auth, retry=QUICK).check_token())
    assert caught.value.permanent
    assert "s3cr3t" not in str(caught.value)
    assert counted(dss, "GET", "/collections") == {}


def test_threads_share_one_signed_token(dss: LocalDSS) -> None:
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
def test_two_temporary_errors_are_retried(run: Run, api: DSSAPI, dss: LocalDSS, status: int) -> None:
    uuid = new_uuid()
    fault(dss, path=uuid, status=status, times=2)
    assert run(api.put_file(uuid, VERSION, source_url=stage(dss, fresh()), creator_uid=1)).outcome == "created"
    fault(dss, path=uuid, status=status, times=2)
    assert run(api.head_file(uuid, replica="aws")).uuid == uuid
    assert counted(dss, "PUT", f"/files/{uuid}") == {status: 2, 201: 1}
    assert counted(dss, "HEAD", f"/files/{uuid}") == {status: 2, 200: 1}


def test_lasting_error_is_raised_with_code_and_request_id(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    fault(dss, path="/bundles/all", status=503, times=3)
    with pytest.raises(DSSResponseError) as caught:
        run(api.get_bundles_all(replica="aws", prefix="00"))
    assert (caught.value.status, caught.value.code) == (503, "read_only")
    assert caught.value.request_id
    assert counted(dss, "GET", "/bundles/all") == {503: 3}


def test_429_waits_for_retry_after(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    fault(dss, path="/collections", status=429, retry_after=1)
    started = time.monotonic()
    run(api.check_token())
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("after", [False, True])
def test_dropped_connection_before_or_after_the_work_is_retried(
    run: Run, api: DSSAPI, dss: LocalDSS, after: bool
) -> None:
    uuid, source = new_uuid(), stage(dss, fresh())
    fault(dss, method="PUT", path=uuid, action="drop", after=after)
    done = run(api.put_file(uuid, VERSION, source_url=source, creator_uid=1))
    assert done.outcome == ("identical" if after else "created")


def test_lasting_dropped_connection_is_raised(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    fault(dss, path="/bundles/all", action="drop", times=20)
    with pytest.raises(DSSConnectionError) as caught:
        run(api.get_bundles_all(replica="aws", prefix="00"))
    assert (caught.value.kind, caught.value.path) == ("dropped", "/v1/bundles/all")


def test_read_timeout_is_retried(run: Run, dss: LocalDSS) -> None:
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


def test_put_bundle_stored_despite_504_is_success(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid, files = new_uuid(), [member(dss, "a"), member(dss, "b")]
    fault(dss, method="PUT", path=uuid, status=504, after=True, times=3)
    assert run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files)).outcome == "created"
    assert counted(dss, "PUT", f"/bundles/{uuid}") == {504: 3}


def test_put_bundle_with_other_content_stored_raises_504(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
    uuid, files = new_uuid(), [member(dss, "a"), member(dss, "b")]
    run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files))
    fault(dss, method="PUT", path=uuid, status=504, times=3)
    with pytest.raises(DSSResponseError) as caught:
        run(api.put_bundle(uuid, VERSION, replica="aws", creator_uid=1, files=files[::-1]))
    assert (caught.value.status, caught.value.code) == (504, "timed_out")


def test_put_bundle_not_stored_raises_504(run: Run, api: DSSAPI, dss: LocalDSS) -> None:
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
def test_other_web_server_is_protocol_error(run: Run, server: Server, reply: Reply) -> None:
    server.replies = [reply]
    with pytest.raises(DSSProtocolError) as caught:
        run(DSSAPI(server.url, retry=QUICK).check_reachable())
    assert caught.value.permanent


def test_404_in_html_is_raised_with_its_title(run: Run, server: Server) -> None:
    server.replies = [Reply(404, [("Content-Type", "text/html")], b"<html><title>Not here</title></html>")]
    with pytest.raises(DSSProtocolError, match="404: Not here"):
        run(DSSAPI(server.url, retry=QUICK).check_reachable())


def test_wrong_base_path_is_not_an_auth_error(run: Run, dss: LocalDSS) -> None:
    """The DSS answers 403 to both."""
    with pytest.raises(DSSProtocolError, match="the address must include the base path"):
        run(DSSAPI(dss.url.replace("/v1", "/v2"), retry=QUICK).check_reachable())


def test_redirect_to_another_host_is_followed_for_content_only(
    run: Run, server: Server, dss: LocalDSS, dss_auth: Auth
) -> None:
    api = DSSAPI(server.url, auth=dss_auth, retry=QUICK)
    uuid = dss.new_file()
    for call in (
        api.head_file(uuid, replica="aws"),
        api.check_token(),
        api.put_file(uuid, VERSION, source_url=stage(dss, fresh()), creator_uid=1),
    ):
        server.replies = [Reply(302, [("Location", f"{dss.url}/files/{uuid}?replica=aws")])]
        with pytest.raises(DSSProtocolError, match=f"redirected to {dss.url.removesuffix('/v1')}; change the host"):
            run(call)
    assert counted(dss, "HEAD", f"/files/{uuid}") == counted(dss, "GET", f"/files/{uuid}") == {}


def test_next_page_of_another_host_is_not_requested(run: Run, server: Server, dss: LocalDSS) -> None:
    link = f"<{dss.url}/bundles/all?replica=aws>; rel='next'"
    server.replies = [Reply(206, [("Link", link)], b'{"bundles": []}')]
    with pytest.raises(DSSProtocolError, match=f"the next page is at {dss.url.removesuffix('/v1')}; change the host"):
        run(DSSAPI(server.url, retry=QUICK).get_bundles_all(replica="aws"))
    assert counted(dss, "GET", "/bundles/all") == {}


@pytest.mark.parametrize(
    ("url", "kind"), [("http://no-such-host.invalid/v1", "dns"), ("http://127.0.0.1:1/v1", "refused")]
)
def test_missing_server_is_connection_error_after_all_attempts(run: Run, url: str, kind: str) -> None:
    with pytest.raises(DSSConnectionError) as caught:
        run(DSSAPI(url, retry=QUICK).check_reachable())
    assert caught.value.kind == kind
