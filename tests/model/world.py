"""Client and DSS with the clock and the faults between them: run a call, and check how it uses the protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_hca.client.base_transport import send_response
from airflow_provider_hca.client.rate_limit import RateLimiter
from airflow_provider_hca.client.sansio import Call, Request, Response
from airflow_provider_hca.exceptions import DSSConnectionError, DSSError
from airflow_provider_hca.local.keys import DEVELOPER

from .clock import Clock
from .faults import LATE, SLOW, Fault, Seen
from .outcomes import Exchange, FaultQueue, KilledError, Outcome
from .retry_rules import Rules
from .server import HOME, InProcessDSS
from .truth import Bundle, Truth

T = TypeVar("T")

PAGE = 10  # files of a manifest; a DSS may send fewer than requested
_REQUEST_SECONDS = 0.02
_MAX_REQUESTS = 1500  # of one call


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
