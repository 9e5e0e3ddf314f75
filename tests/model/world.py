"""Client and DSS with the clock and the faults between them: run a call, and check how it uses the protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_hca.client.base_transport import send_response
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.sansio import Call, Request, Response
from airflow_provider_hca.exceptions import DSSConnectionError, DSSError
from airflow_provider_hca.local.keys import DEVELOPER

from .clock import Clock
from .faults import LATE, SLOW, SURVIVED, Fault, Seen
from .server import HOME, InProcessDSS
from .truth import Bundle, Truth

T = TypeVar("T")

PAGE = 10  # files of a manifest; a DSS may send fewer than requested
_REQUEST_SECONDS = 0.02
# The documented limits of retries. Not taken from the code, which a mutant may have changed.
_ATTEMPTS, _SECONDS, _FIRST_DELAY, _LONGEST_DELAY = 10, 50.0, 0.5, 10.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_SURVIVED = [replace(fault, only="") for fault in SURVIVED]
_MAX_REQUESTS = 1500  # of one call


class KilledError(BaseException):
    """The client was killed."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what the client saw of its response."""

    request: Request
    seen: Seen
    fault: Fault | None
    processed: bool
    at: float

    @property
    def is_home(self) -> bool:
        """True if it was sent to the DSS, not to an object store."""
        return self.request.url.startswith(HOME)


@dataclass(slots=True)
class Outcome:
    """The end of a call.

    :ivar killed: Whether the client was killed before
    :ivar effects: Number of requests of the call that changed something
    """

    value: Any = None
    error: Exception | None = None
    killed: bool = False
    log: list[Exchange] = field(default_factory=list)
    seconds: float = 0.0
    effects: int = 0

    @property
    def last(self) -> Exchange:
        """Last exchange."""
        return self.log[-1]

    @property
    def unclear(self) -> bool:
        """True if the DSS may have applied a request, as far as the client knows."""
        return any(exchange.seen.is_unclear for exchange in self.log)

    @property
    def must_succeed(self) -> bool:
        """True if a valid call survives the faults."""
        faults = [replace(one.fault, only="") for one in self.log if one.fault]
        return not self.killed and (not faults or (len(faults) == 1 and faults[0] in _SURVIVED))

    def sent(self, method: str) -> list[Exchange]:
        """Return the exchanges with a method."""
        return [exchange for exchange in self.log if exchange.request.method == method]

    def __str__(self) -> str:
        lines = [
            f"| {one.at:9.2f} {one.request.method} {one.request.url.removeprefix(HOME)} "
            f"{(one.request.body or b'')!r:.200} -> "
            f"{one.seen.status or one.seen.connection} {one.seen.code} {one.fault.kind if one.fault else ''}"
            for one in self.log
        ]
        return f"{self.value!r} {self.error!r} killed={self.killed}\n" + "\n".join(lines)


class FaultQueue:
    """Faults of the next requests.

    :param faults: Faults; a None lets a request pass
    """

    def __init__(self, faults: Sequence[Fault | None]) -> None:
        self._faults = [fault for fault in faults for _ in range(fault.times if fault else 1)]

    def next(self, method: str) -> Fault | None:
        """Return the fault of the next request."""
        if not self._faults:
            return None
        first = self._faults[0]
        if first is not None and first.only not in {"", method}:
            return None
        return self._faults.pop(0)


class ModelAuth:
    """Two tokens, which the DSS accepts; a refused one is replaced by the other."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens, self._used = list(tokens), 0
        self.rejections = 0

    def token(self) -> Call[str | None]:
        """Return the current token."""
        return self._tokens[self._used]
        yield

    def rejected(self, token: str) -> bool:
        """Replace the token."""
        self.rejections += 1
        if token == self._tokens[self._used]:
            self._used = 1 - self._used
        return True


class World:
    """Everything outside of the client.

    :param state: State directory of the DSS
    """

    def __init__(self, state: Path, clock: Clock) -> None:
        self.clock = clock
        self.directory = state / "directory"
        self.server = InProcessDSS(state, clock, self.advance)
        self.tokens = [self.server.token(number) for number in (1, 2)]
        self.owner = DEVELOPER
        self.counts: Counter[str] = Counter()
        self.before_request: Callable[[Request], None] = lambda _: None
        self.requests = self.calls = 0
        self.reset()

    def reset(self) -> None:
        """Start with an empty DSS."""
        self.server.clear()
        self.server.restart()
        self.truth = Truth(self.server.staging, self.owner)
        self.limiter = RateLimiter()
        self._processes = 0, 0
        self._late: list[tuple[float, Request]] = []
        self._violations: list[AssertionError] = []

    def start_processes(self, count: int, seed: int) -> None:
        """Let requests be answered by processes with caches of manifests; 0 for none that caches."""
        self._processes = count, seed
        self.truth.stored_bundle = self.server.bundle if count else None
        self.server.services.processes.start(count, seed)

    @property
    def is_stale(self) -> bool:
        """True if processes cache manifests."""
        return self._processes[0] > 0

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass: copies, replication, and requests that are processed late."""
        self.clock.now += seconds
        self.tick()

    def tick(self) -> None:
        """Do what is due."""
        now = self.clock.now
        if self._late:
            due = [request for at, request in self._late if at <= now]
            self._late = [late for late in self._late if late[0] > now]
            for request in due:
                self.process(request)
        truth = self.truth
        if truth.copies:
            for copy, pending in zip([*truth.copies], self.server.services.store.pending_copies(), strict=True):
                if copy.due <= now:
                    self.server.services.copies.finish(pending)
                    truth.finish_copy(copy, now)
        if truth.changes and truth.changes[0][0] <= now:
            self.server.sync()
            truth.replicate(now)

    def settle(self) -> None:
        """Wait until no request is in progress."""
        if self._late:
            self.advance(LATE + 0.01)

    def restart(self) -> None:
        """Restart the DSS, and compare its records."""
        self.counts["restarts"] += 1
        self.server.restart()
        self.start_processes(*self._processes)
        self.check()

    def check(self) -> None:
        """Compare all records of the DSS with what must be true."""
        self.truth.check(self.server.dump())

    # Requests

    def process(self, request: Request, *, fail_copy: int = 0) -> tuple[int, dict[str, str], bytes]:
        """Let the DSS process a request."""
        url = request.url
        if "per_page=500" in url and "/bundles/" in url and "/all" not in url:
            url = url.replace("per_page=500", f"per_page={PAGE}")
        self.before_request(request)
        old = self._patched(request)  # a tombstone may be replicated while the DSS waits for files
        extensions = {"dss.fail_copy": fail_copy} if fail_copy else {}
        status, headers, body = self.server.request(request.method, url, request.headers, request.body, **extensions)
        if url.startswith(HOME):
            self.truth.apply(
                request.method, url, request.body, status, body, self.clock.now, fail_copy=fail_copy, old=old
            )
        return status, headers, body

    def _patched(self, request: Request) -> tuple[str, Bundle] | None:
        if request.method != "PATCH" or "/v1/bundles/" not in request.url:
            return None
        parts = urlsplit(request.url)
        query = dict(parse_qsl(parts.query))
        return self.truth.bundle(query["replica"], parts.path.rsplit("/", 1)[-1], query["version"])

    def run(self, call: Call[T], faults: Sequence[Fault | None] | FaultQueue = (), *, fail_copy: int = 0) -> Outcome:
        """Run a call.

        :param faults: Faults of the first requests, one after the other
        :param fail_copy: Status with which a copy that this call starts fails
        """
        self.calls += 1
        outcome = Outcome()
        pending = faults if isinstance(faults, FaultQueue) else FaultQueue(faults)
        started, rules, effects = self.clock.now, Rules(), self.truth.effects
        try:
            request = next(call)
            while True:
                rules.check(request)
                self.advance(request.delay)
                if not request.method:
                    request = call.send(Response(0))
                    continue
                rules.sending(request, self.clock.now)
                self.advance(self.limiter.reserve() + _REQUEST_SECONDS)
                fault = pending.next(request.method)
                response = self._exchange(request, fault, outcome, fail_copy)
                rules.seen(outcome.last, self.clock.now)
                assert len(outcome.log) < _MAX_REQUESTS, "endless"
                if isinstance(response, DSSConnectionError):
                    request = call.throw(response)
                else:
                    request = send_response(call, response, self.limiter)
        except StopIteration as result:
            outcome.value = result.value
        except KilledError:
            outcome.killed = True
        except (DSSError, ValueError) as error:
            outcome.error = error
        except AssertionError as error:
            raise self._violation(error, outcome) from None
        finally:
            call.close()
        try:
            if not outcome.killed:
                rules.end(outcome.error)
        except AssertionError as error:
            raise self._violation(error, outcome) from None
        outcome.seconds = self.clock.now - started
        self.settle()
        outcome.effects = self.truth.effects - effects
        return outcome

    def _violation(self, error: AssertionError, outcome: Outcome) -> AssertionError:
        """Keep a violation: an upload would take it for the error of a file."""
        self._violations.append(AssertionError(f"{error}\n{outcome}").with_traceback(error.__traceback__))
        return self._violations[-1]

    def raise_violation(self) -> None:
        """Raise the first violation."""
        if self._violations:
            raise self._violations[0]

    def _exchange(
        self, request: Request, fault: Fault | None, outcome: Outcome, fail_copy: int
    ) -> Response | DSSConnectionError:
        self.requests += 1
        answer = self._answer(request, fault, fail_copy)
        killed = fault is not None and fault.kill
        if fault is not None and fault.kind != SLOW and (killed or not fault.status):
            seen = Seen(request.method, 0, "killed" if killed else fault.connection)
            outcome.log.append(Exchange(request, seen, fault, answer is not None, self.clock.now))
            if killed:
                raise KilledError
            self._deliver_half(request, answer)
            return DSSConnectionError(request.method, request.origin, request.path, fault.connection)
        processed = answer is not None
        if fault is not None and fault.kind != SLOW:
            answer = fault.response()
        assert answer is not None
        status, headers, body = answer
        body = b"" if request.method == "HEAD" else body
        seen = Seen.of(request.method, status, headers, body)
        outcome.log.append(Exchange(request, seen, fault, processed, self.clock.now))
        receiver = request.receive(status, headers) if request.receive else None
        if receiver is not None:
            receiver(body)
            body = b""
        return Response(status, headers, body)

    def _answer(
        self, request: Request, fault: Fault | None, fail_copy: int
    ) -> tuple[int, dict[str, str], bytes] | None:
        """Let the DSS process a request, unless a fault prevents it, and let the fault take its time."""
        if fault is None:
            return self.process(request, fail_copy=fail_copy)
        self.counts[fault.kind] += 1
        if fault.kind == SLOW:
            self.advance(fault.seconds)
            return self.process(request, fail_copy=fail_copy)
        answer = None
        if fault.applied == "yes":
            answer = self.process(request, fail_copy=fail_copy)
        elif fault.applied == "late" and request.method not in {"GET", "HEAD"}:
            self._late.append((self.clock.now + LATE, request))
        self.advance(fault.seconds)
        if fault.restart:
            self.restart()
        return answer

    def _deliver_half(self, request: Request, answer: tuple[int, dict[str, str], bytes] | None) -> None:
        """Deliver the first half of a content, after which the connection breaks."""
        if answer is not None and request.receive is not None:
            receiver = request.receive(answer[0], answer[1])
            if receiver is not None:
                receiver(answer[2][: len(answer[2]) // 2])


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
            if request.method == "PATCH" and 400 <= seen.status < 500 and seen.code != "duplicate_filename":
                self._refused.append(request)
            # Polls, and bundles whose files are missing
            self._forbidden = seen.unusual and request.method == "PATCH"
            self._forbidden |= seen.status >= 400 and seen.status != 404 and seen.code != "file_missing"
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
