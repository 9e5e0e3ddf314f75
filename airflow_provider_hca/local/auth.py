"""Issue tokens, and verify them by the rules of a DSS."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jwt

from .errors import BareServerError, ProblemError
from .keys import DEVELOPER, USER

if TYPE_CHECKING:
    from .keys import Secrets

GROUP = "https://auth.data.humancellatlas.org/group"
EMAIL = "https://auth.data.humancellatlas.org/email"
_ADMINISTRATORS = {DEVELOPER}
_MAX_CACHED = 1000  # verified tokens; verifying a signature takes 0.25 ms


class Authority:
    """Verify tokens; issue those of the developer's service account and of a user."""

    def __init__(self, secrets: Secrets, audience: str) -> None:
        self.audience = audience
        self.user_lifetime = 3600.0  # seconds, of a user's access token
        self._account = secrets.service_account
        self._provider = secrets.provider
        keys = (secrets.service_account, secrets.provider)
        self._public = {key.issuer: {key.kid: key.public} for key in keys}
        self._verified: dict[str, dict[str, Any]] = {}

    def verify(self, token: str | None) -> dict[str, Any]:
        """Return the claims of a token.

        :param token: the value after `Bearer`, empty for another scheme; None without authorization
        :raises ProblemError: 401 or 403
        :raises BareServerError: for tokens at which a DSS fails with an unhandled error
        """
        if token is None:
            raise ProblemError(401, "OAuthProblem", "No authorization token provided")
        claims = self._verified.get(token)
        if claims is None or claims["exp"] <= time.time():
            claims = self._verify(token)
            if "exp" in claims:
                if len(self._verified) >= _MAX_CACHED:
                    self._verified.clear()
                self._verified[token] = claims
        return claims

    def _verify(self, token: str) -> dict[str, Any]:
        try:
            unverified = jwt.decode(token, options={"verify_signature": False})
            kid = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            raise ProblemError(401, "Unauthorized", "The token cannot be decoded") from None
        issuer = self._trusted_issuer(unverified)
        if kid not in self._public[issuer]:
            raise BareServerError("unknown kid")
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._public[issuer][kid], algorithms=["RS256"], audience=self.audience, issuer=issuer
            )
        except jwt.PyJWTError as error:
            raise ProblemError(401, "Unauthorized", f"The token is refused: {error}") from None
        if not claims.get("scope"):
            raise BareServerError("no scope")
        return claims

    def _trusted_issuer(self, claims: dict[str, Any]) -> str:
        if "iss" not in claims:
            raise BareServerError("no iss")
        issuer = claims["iss"]
        own = issuer == self._account.issuer and claims.get("sub") == issuer
        if not own and issuer != self._provider.issuer:
            raise ProblemError(403, "Forbidden", f"The issuer {issuer!r} is not trusted")
        return str(issuer)

    def issue(
        self, *, user: bool, expires_in: float, claims: dict[str, Any] | None = None, kid: str | None = None
    ) -> str:
        """Return a new token.

        :param user: issued to a user by the OIDC provider, not by the developer's service account
        :param expires_in: lifetime in seconds; negative for an expired token
        :param claims: overrides of the default claims; None removes a claim
        :param kid: key id in the header; that of the signing key if None
        """
        key = self._provider if user else self._account
        email = USER if user else DEVELOPER
        now = time.time()
        body: dict[str, Any] = {
            "iss": key.issuer,
            "sub": "local|user" if user else key.issuer,
            "aud": [self.audience] if user else self.audience,
            "iat": int(now) + min(0, int(expires_in)),
            "exp": now + expires_in,
            "scope": "openid email offline_access",
            GROUP: "hca",
            EMAIL: email,
            "email": email,
        }
        body |= claims or {}
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(body, key.private, algorithm="RS256", headers={"kid": kid or key.kid})


def require_group(claims: dict[str, Any], *groups: str) -> None:
    """Raise 403 unless the caller is in one of the groups.

    :param claims: claims of a verified token
    :param groups: accepted groups; `hca` if empty
    """
    if claims.get(GROUP) not in (groups or ("hca",)):
        raise ProblemError(403, "Forbidden", "The group of the token may not do that")


def email_of(claims: dict[str, Any]) -> str:
    """Return the caller's e-mail address.

    :param claims: claims of a verified token
    """
    email = claims.get(EMAIL) or claims.get("email")
    if not email:
        raise ProblemError(401, "Unauthorized", "The token carries no e-mail claim")
    return str(email)


def require_administrator(claims: dict[str, Any]) -> None:
    """Raise 403 unless the caller is an administrator.

    :param claims: claims of a verified token
    """
    if email_of(claims) not in _ADMINISTRATORS:
        raise ProblemError(403, "Forbidden", "Only an administrator may do that")
