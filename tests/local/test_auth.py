"""Who is let in: every row of the table, for every call that asks for a token."""

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


def _call(dss: LocalDSS, what: str, token: str | None, bundle: str = "") -> requests.Response:
    method, kind = what.split()
    path = f"/{kind}" if kind.endswith("s") else f"/{kind}s/{bundle or new_uuid()}"
    bodies: dict[str, Any] = {
        "PUT file": {"source_url": dss.stage(b"x") if what == "PUT file" else "", "creator_uid": 1},
        "PUT bundle": {"files": [], "creator_uid": 1},
        "PATCH bundle": {},
        "DELETE bundle": {"reason": "test"},
        "PUT collections": {"name": "n", "description": "d", "details": {}, "contents": []},
        "PATCH collection": {},
        "PUT subscriptions": {"callback_url": "http://127.0.0.1:9/"},
    }
    query = {} if what == "GET collections" else {"version": VERSION, "replica": "aws", "uuid": new_uuid()}
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return requests.request(method, dss.url + path, json=bodies.get(what), params=query, headers=headers, timeout=10)


def test_refused_tokens(dss: LocalDSS) -> None:
    """No header or a bad token is 401, an untrusted issuer 403, and 500 without scope, iss or a known kid."""
    tampered = dss.token().rsplit(".", 1)[0] + "." + dss.token(expires_in=7).rsplit(".", 1)[1]
    what = "GET collection"
    for token in (
        "nonsense",
        dss.token(expires_in=-10),
        dss.token(claims={"aud": "https://dev.data.humancellatlas.org"}),
        tampered,
    ):
        assert code_of(_call(dss, what, token)) == (401, "Unauthorized")
    for claims in ({"iss": "https://elsewhere.invalid/"}, {"sub": "somebody@else.invalid"}):
        assert code_of(_call(dss, what, dss.token(claims=claims))) == (403, "Forbidden")
    for wish in ({"claims": {"scope": None}}, {"claims": {"iss": None}}, {"kid": "unknown"}):
        answer = _call(dss, what, dss.token(**wish))
        assert answer.status_code == 500
        assert answer.json().keys() == {"Code", "Message"}


def test_calls_without_a_good_token_are_refused(dss: LocalDSS) -> None:
    """Every call that asks for a token refuses none, one of another issuer, and one without a scope."""
    foreign = dss.token(claims={"iss": "https://elsewhere.invalid/"})
    incomplete = dss.token(claims={"scope": None})
    for what in CALLS:
        assert code_of(_call(dss, what, None)) == (401, "OAuthProblem"), what
        assert code_of(_call(dss, what, "nonsense")) == (401, "Unauthorized"), what
        assert code_of(_call(dss, what, foreign)) == (403, "Forbidden"), what
        assert _call(dss, what, incomplete).status_code == 500, what


@pytest.mark.parametrize(
    ("what", "status"), [("PUT file", 403), ("PUT bundle", 201), *((what, 403) for what in COLLECTIONS)]
)
def test_group(dss: LocalDSS, what: str, status: int) -> None:
    """PUT file and the collections ask for the group `hca`, PUT bundle does not."""
    assert _call(dss, what, dss.token(claims={GROUP: "other"})).status_code == status


@pytest.mark.parametrize("group", [None, "", ["hca"]])
def test_group_of_another_form_is_refused(dss: LocalDSS, group: Any) -> None:
    """No group, an empty one and a list are not the group `hca`."""
    assert _call(dss, "PUT file", dss.token(claims={GROUP: group})).status_code == 403


@pytest.mark.parametrize("what", COLLECTIONS)
def test_collections_need_an_email(dss: LocalDSS, what: str) -> None:
    """The collections ask for an e-mail claim, of either name."""
    assert code_of(_call(dss, what, dss.token(claims={EMAIL: None, "email": None}))) == (401, "Unauthorized")
    for claims in ({EMAIL: None}, {"email": None}):
        assert _call(dss, what, dss.token(claims=claims)).status_code in {200, 201, 404}


def test_deletion_needs_an_administrator(dss: LocalDSS) -> None:
    """DELETE asks for an administrator's e-mail: the developer has one, a user has not."""
    bundle = new_uuid()
    dss.put_bundle([], bundle)
    assert code_of(_call(dss, "DELETE bundle", dss.token(user=True), bundle)) == (403, "Forbidden")
    nameless = dss.token(claims={EMAIL: None, "email": None})
    assert _call(dss, "DELETE bundle", nameless, bundle).status_code == 401
    assert _call(dss, "DELETE bundle", dss.token(), bundle).status_code == 200


def test_users_may_ingest(dss: LocalDSS) -> None:
    """A user's token of the OIDC provider is good for files, bundles and collections."""
    token = dss.token(user=True)
    assert _call(dss, "PUT file", token).status_code == 201
    assert _call(dss, "PUT bundle", token).status_code == 201
    assert _call(dss, "GET collections", token).json() == {"collections": []}


def test_the_key_file_signs(dss: LocalDSS) -> None:
    """The developer's key is a service-account file, readable by its owner only, that signs tokens by itself."""
    path = Path(dss.about["key_file"])
    assert path.stat().st_mode & 0o777 == 0o600
    key = json.loads(path.read_text())
    assert key["type"] == "service_account"
    email, now = key["client_email"], int(time.time())
    claims = {"iss": email, "sub": email, "aud": dss.about["audience"], "iat": now, "exp": now + 3600}
    claims |= {"scope": "openid", GROUP: "hca", "email": email}
    token = jwt.encode(claims, key["private_key"], algorithm="RS256", headers={"kid": key["private_key_id"]})
    assert _call(dss, "GET collections", token).status_code == 200


def test_reading_needs_no_token(dss: LocalDSS) -> None:
    """Files, bundles and events are read, listed, searched and checked out without a token."""
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
    for path, body in ((f"/bundles/{bundle}/checkout", None), ("/search", query)):
        assert requests.post(dss.url + path, json=body, params={"replica": "aws"}, timeout=10).status_code < 400


def _refresh(dss: LocalDSS, **changes: str) -> requests.Response:
    oauth2 = dss.about["oauth2"]
    form = {
        "grant_type": "refresh_token",
        **{name: oauth2[name] for name in ("client_id", "client_secret", "refresh_token")},
    }
    return requests.post(oauth2["token_uri"], data=form | changes, timeout=10)


def test_token_endpoint(dss: LocalDSS) -> None:
    """The token endpoint gives a user's token for the refresh token, of a lifetime that can be set."""
    answer = _refresh(dss).json()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    assert _call(dss, "GET collections", answer["access_token"]).status_code == 200
    dss.control("POST", "oauth/settings", {"expires_in": -1})
    answer = _refresh(dss).json()
    dss.control("POST", "oauth/settings", {"expires_in": 3600})
    assert code_of(_call(dss, "GET collections", answer["access_token"])) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("name", "status", "error"),
    [
        ("client_id", 401, "invalid_client"),
        ("client_secret", 401, "invalid_client"),
        ("refresh_token", 400, "invalid_grant"),
        ("grant_type", 400, "unsupported_grant_type"),
    ],
)
def test_token_endpoint_refuses(dss: LocalDSS, name: str, status: int, error: str) -> None:
    """Anything wrong in a refresh is answered as OAuth2 has it."""
    answer = _refresh(dss, **{name: "wrong"})
    assert (answer.status_code, answer.json()) == (status, {"error": error})
