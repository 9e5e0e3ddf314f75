"""Rules of retries, redirects and tokens, checked for each request that follows another one."""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow_provider_hca.client.sansio import Request

from .outcomes import Exchange
from .server import HOME

# The documented limits of retries. Not taken from the code, which a mutant may have changed.
_ATTEMPTS, _SECONDS, _FIRST_DELAY, _LONGEST_DELAY = 10, 50.0, 0.5, 10.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


class Rules:
    """Rules that every call keeps, whatever it does: retries, their delays and their end; what is sent where."""

    def __init__(self) -> None:
        self._last: Exchange | None = None
        self._started = 0.0
        self._attempt = 0
        self._renewed = self._renewing = False
        self._bounds: tuple[float, float] | None = None  # of the delay of a retry that must follow
        self._forbidden = False  # a retry
        self._refused: list[Request] = []

    def check(self, request: Request) -> None:
        """Check the request that follows the last exchange."""
        last = self._last
        repeated = last is not None and _same(last.request, request)
        if self._bounds is not None:
            low, high = self._bounds
            assert repeated, f"no retry after {last.seen if last else None}, but {request}"
            assert low - 1e-6 <= request.delay <= high + 1e-6, f"delay {request.delay}, expected {low} to {high}"
        assert not (repeated and self._forbidden), f"a request was repeated after {last.seen if last else None}"
        if not repeated and request.method:
            self._attempt, self._renewed = 0, False

    def end(self, error: Exception | None) -> None:
        """Check the end of a call."""
        if self._bounds is not None and self._last is not None and not isinstance(error, ValueError):
            raise AssertionError(f"no retry after {self._last.seen}, but {error!r}")

    def sending(self, request: Request, now: float) -> None:
        """Check what is sent."""
        last = self._last
        if last is None or (self._attempt == 0 and not self._renewing) or not _same(last.request, request):
            self._started, self._attempt = now, 0
        assert not any(_same(request, refused) for refused in self._refused), f"sent again after a refusal: {request}"
        self._attempt += not self._renewing
        self._renewing = False
        home = request.url.startswith(HOME)
        path = urlsplit(request.url).path
        needs_token = home and (request.method in {"PUT", "PATCH", "DELETE"} or path.startswith("/v1/collections"))
        assert ("authorization" in request.headers) == needs_token, f"token: {request}"
        assert path == path.lower() or not home, path
        assert 0 < request.connect_timeout <= 30, request.connect_timeout
        assert 0 < request.read_timeout <= 60, request.read_timeout

    def seen(self, exchange: Exchange, now: float) -> None:
        """Derive from a response what may follow."""
        self._last, self._bounds, self._forbidden = exchange, None, False
        seen, request = exchange.seen, exchange.request
        if seen.status == 401 and "authorization" in request.headers and not self._renewed:
            self._renewed = self._renewing = True
            self._bounds = 0.0, 0.0
            return
        if "/collections?per_page=10" in request.url and "authorization" in request.headers:
            return  # `check_token` retries less
        if not seen.is_transient:
            self._attempt = 0
            # Another process, whose cache has other files, may accept the PATCH.
            is_cached = request.method == "PATCH" and seen.code == "duplicate_filename"
            if request.method == "PATCH" and 400 <= seen.status < 500 and not is_cached:
                self._refused.append(request)
            # Polls, and bundles whose files are missing
            is_poll = seen.status == 404 or seen.code == "file_missing"
            self._forbidden = seen.unusual and request.method == "PATCH"
            self._forbidden |= seen.status >= 400 and not is_poll and not is_cached
            return
        if request.receive is not None:
            return  # the content is requested from a new location
        if request.method not in _IDEMPOTENT and seen.is_unclear:
            self._forbidden = True
            return
        if seen.retry_after is None:
            high = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** (self._attempt - 1))
            low = high / 2
        else:
            low, high = seen.retry_after, seen.retry_after * 1.1
        elapsed = now - self._started
        if self._attempt < _ATTEMPTS and elapsed + high <= _SECONDS - 1e-6:
            self._bounds = low, high
        elif self._attempt >= _ATTEMPTS or elapsed + low > _SECONDS + 1e-6:
            self._forbidden = True


def _same(one: Request, other: Request) -> bool:
    return (one.method, one.url, one.body) == (other.method, other.url, other.body)
