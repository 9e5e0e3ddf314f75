"""Contract of the client: a DSS in trouble, or something else than a DSS, on both transports."""

from __future__ import annotations

import json
import time

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.retry import Auth, RetryPolicy
from airflow_provider_hca.exceptions import (
    DSSConnectionError,
    DSSProtocolError,
    DSSResponseError,
)
from tests.local.server import VERSION, LocalDSS, new_uuid

from .contract import QUICK, counted, fault, fresh, member, some_file, stage
from .drivers import Run
from .server import Reply, Server

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
