"""Contract of the client: tokens, on both transports against a running DSS."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.client.auth import ServiceAccountKey, StaticToken, UserToken
from airflow_provider_hca.client.retry import Auth
from airflow_provider_hca.client.sansio import Call
from airflow_provider_hca.client.transport import RequestsTransport
from airflow_provider_hca.exceptions import (
    DSSAuthError,
    DSSCredentialsError,
    DSSNotFoundError,
    DSSResponseError,
)
from tests.local.server import VERSION, LocalDSS, new_uuid

from .contract import QUICK, counted, fault, fresh, key_of, stage
from .drivers import Run


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
