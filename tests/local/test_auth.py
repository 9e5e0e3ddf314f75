"""Authorization: tokens, groups and e-mail claims, for every call that needs a token."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import requests

from .server import EMAIL, VERSION, code_of, new_uuid

if TYPE_CHECKING:
    from .server import LocalDSS

GROUP = "https://auth.data.humancellatlas.org/group"
COLLECTIONS = ["GET collections", "PUT collections", "GET collection", "PATCH collection", "DELETE collection"]
SUBSCRIPTIONS = ["GET subscriptions", "PUT subscriptions", "GET subscription", "DELETE subscription"]
CALLS = ["PUT file", "PUT bundle", "PATCH bundle", "DELETE bundle", *COLLECTIONS, *SUBSCRIPTIONS]


def _call(dss: LocalDSS, call: str, token: str | None, bundle: str = "") -> requests.Response:
    method, kind = call.split()
    path = f"/{kind}" if kind.endswith("s") else f"/{kind}s/{bundle or new_uuid()}"
    bodies: dict[str, Any] = {
        "PUT file": {"source_url": dss.stage(b"x") if call == "PUT file" else "", "creator_uid": 1},
        "PUT bundle": {"files": [], "creator_uid": 1},
        "PATCH bundle": {},
        "DELETE bundle": {"reason": "test"},
        "PUT collections": {"name": "n", "description": "d", "details": {}, "contents": []},
        "PATCH collection": {},
        "PUT subscriptions": {"callback_url": "http://127.0.0.1:9/"},
    }
    query = {} if call == "GET collections" else {"version": VERSION, "replica": "aws", "uuid": new_uuid()}
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return requests.request(method, dss.url + path, json=bodies.get(call), params=query, headers=headers, timeout=10)


def test_call_with_bad_token_returns_401_403_or_500(dss: LocalDSS) -> None:
    """The status is 500 without a scope or iss, and for an unknown kid, as in a DSS."""
    tampered = dss.token().rsplit(".", 1)[0] + "." + dss.token(expires_in=7).rsplit(".", 1)[1]
    call = "GET collection"
    for token in (
        "nonsense",
        dss.token(expires_in=-10),
        dss.token(claims={"aud": "https://dev.data.humancellatlas.org"}),
        tampered,
    ):
        assert code_of(_call(dss, call, token)) == (401, "Unauthorized")
    for claims in ({"iss": "https://elsewhere.invalid/"}, {"sub": "other@else.invalid"}):
        assert code_of(_call(dss, call, dss.token(claims=claims))) == (403, "Forbidden")
    for fields in ({"claims": {"scope": None}}, {"claims": {"iss": None}}, {"kid": "unknown"}):
        response = _call(dss, call, dss.token(**fields))
        assert response.status_code == 500
        assert response.json().keys() == {"Code", "Message"}


def test_every_secured_call_rejects_missing_and_invalid_tokens(dss: LocalDSS) -> None:
    foreign = dss.token(claims={"iss": "https://elsewhere.invalid/"})
    incomplete = dss.token(claims={"scope": None})
    for call in CALLS:
        assert code_of(_call(dss, call, None)) == (401, "OAuthProblem"), call
        assert code_of(_call(dss, call, "nonsense")) == (401, "Unauthorized"), call
        assert code_of(_call(dss, call, foreign)) == (403, "Forbidden"), call
        assert _call(dss, call, incomplete).status_code == 500, call


@pytest.mark.parametrize(
    ("call", "status"), [("PUT file", 403), ("PUT bundle", 201), *((call, 403) for call in COLLECTIONS)]
)
def test_call_with_other_group_is_rejected_where_hca_is_required(dss: LocalDSS, call: str, status: int) -> None:
    """PUT file and the collections require the group `hca`, PUT bundle does not."""
    assert _call(dss, call, dss.token(claims={GROUP: "other"})).status_code == status


@pytest.mark.parametrize("group", [None, "", ["hca"]])
def test_put_file_without_group_string_is_rejected(dss: LocalDSS, group: Any) -> None:
    assert _call(dss, "PUT file", dss.token(claims={GROUP: group})).status_code == 403


@pytest.mark.parametrize("call", COLLECTIONS)
def test_collections_without_email_claim_return_401(dss: LocalDSS, call: str) -> None:
    """Either of the two e-mail claims is sufficient."""
    assert code_of(_call(dss, call, dss.token(claims={EMAIL: None, "email": None}))) == (401, "Unauthorized")
    for claims in ({EMAIL: None}, {"email": None}):
        assert _call(dss, call, dss.token(claims=claims)).status_code in {200, 201, 404}


def test_delete_bundle_by_non_administrator_is_rejected(dss: LocalDSS) -> None:
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    assert code_of(_call(dss, "DELETE bundle", dss.token(user=True), bundle)) == (403, "Forbidden")
    nameless = dss.token(claims={EMAIL: None, "email": None})
    assert _call(dss, "DELETE bundle", nameless, bundle).status_code == 401
    assert _call(dss, "DELETE bundle", dss.token(), bundle).status_code == 200


def test_user_token_can_put_files_bundles_and_collections(dss: LocalDSS) -> None:
    token = dss.token(user=True)
    assert _call(dss, "PUT file", token).status_code == 201
    assert _call(dss, "PUT bundle", token).status_code == 201
    assert _call(dss, "GET collections", token).json() == {"collections": []}


def test_key_file_signs_tokens_and_is_private(dss: LocalDSS) -> None:
    path = Path(dss.about["key_file"])
    assert path.stat().st_mode & 0o777 == 0o600
    key = json.loads(path.read_text())
    assert key["type"] == "service_account"
    email, now = key["client_email"], int(time.time())
    claims = {"iss": email, "sub": email, "aud": dss.about["audience"], "iat": now, "exp": now + 3600}
    claims |= {"scope": "openid", GROUP: "hca", "email": email}
    token = jwt.encode(claims, key["private_key"], algorithm="RS256", headers={"kid": key["private_key_id"]})
    assert _call(dss, "GET collections", token).status_code == 200


def test_reading_without_token_succeeds(dss: LocalDSS) -> None:
    bundle, file = new_uuid(), dss.new_file()
    dss.put_bundle([dss.entry("a", file)], bundle)
    for path in (
        f"/files/{file}",
        f"/bundles/{bundle}",
        "/bundles/all",
        "/events",
        f"/events/{bundle}?version={VERSION}",
    ):
        assert requests.get(dss.url + path, {"replica": "aws"}, allow_redirects=False, timeout=10).status_code < 400
    query: dict[str, Any] = {"es_query": {"query": {"match_all": {}}}}
    for path, body in ((f"/bundles/{bundle}/checkout", {}), ("/search", query)):
        assert requests.post(dss.url + path, json=body, params={"replica": "aws"}, timeout=10).status_code < 400


def _refresh(dss: LocalDSS, **changes: str) -> requests.Response:
    oauth2 = dss.about["oauth2"]
    form = {
        "grant_type": "refresh_token",
        **{name: oauth2[name] for name in ("client_id", "client_secret", "refresh_token")},
    }
    return requests.post(oauth2["token_uri"], data=form | changes, timeout=10)


def test_token_endpoint_issues_tokens_with_configured_lifetime(dss: LocalDSS) -> None:
    response = _refresh(dss).json()
    assert (response["token_type"], response["expires_in"]) == ("Bearer", 3600)
    assert _call(dss, "GET collections", response["access_token"]).status_code == 200
    dss.control("POST", "oauth/settings", {"expires_in": -1})
    response = _refresh(dss).json()
    dss.control("POST", "oauth/settings", {"expires_in": 3600})
    assert code_of(_call(dss, "GET collections", response["access_token"])) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("client_id", 401, "invalid_client"),
        ("client_secret", 401, "invalid_client"),
        ("refresh_token", 400, "invalid_grant"),
        ("grant_type", 400, "unsupported_grant_type"),
    ],
)
def test_token_endpoint_with_wrong_field_returns_error(dss: LocalDSS, name: str, status: int, error: str) -> None:
    response = _refresh(dss, **{name: "wrong"})
    assert (response.status_code, response.json()) == (status, {"error": error})
