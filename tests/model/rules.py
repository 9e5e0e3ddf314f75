"""Rules: state machine with a DSS and its model, and the decorator of a rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from airflow_provider_hca.client.api import DSSAPI
from airflow_provider_hca.exceptions import (
    DSSError,
)

from .checksums import sums
from .choices import BUNDLES, COLLECTIONS, CONTENTS, FILES, VERSIONS, Faults, file_dict
from .outcomes import Outcome
from .server import HOME
from .uploads import Directory, Upload
from .world import World

# Hypothesis draws uniformly from a range of 24 bits that is far from zero. In other ranges it draws small numbers most
# of the time, with which most arguments have their first value.
_UNIFORM, _FAR = 2**24, 10**24


def step(**options: Sequence[Any]) -> Callable[[Any], Any]:
    """Return the decorator of a rule whose arguments are chosen from options, the simplest first.

    A number stands for several arguments, since hypothesis takes longer to draw one than the DSS to answer a request.
    """
    groups: list[dict[str, Sequence[Any]]] = [{}]
    for name, choices in options.items():
        if math.prod(map(len, groups[-1].values())) * len(choices) >= _UNIFORM:
            groups.append({})
        groups[-1][name] = choices
    numbers: dict[str, Any] = {
        f"number{index}": st.integers(_FAR, _FAR + math.prod(map(len, group.values())) - 1)
        for index, group in enumerate(groups)
    }

    def decorate(function: Any) -> Any:
        def run(self: Base, **drawn: int) -> None:
            arguments: dict[str, Any] = {}
            for number, group in zip(drawn.values(), groups, strict=True):
                rest = number - _FAR
                for name, choices in group.items():
                    rest, index = divmod(rest, len(choices))
                    arguments[name] = choices[index]
            Base.steps += 1
            try:
                function(self, **arguments)
            except AssertionError as error:
                error.add_note(f"{function.__name__}({arguments})")
                raise

        run.__name__ = function.__name__
        decorated: Any = rule(**numbers)
        return decorated(run)

    return decorate


class Base(RuleBasedStateMachine):
    """State and checks that the rules of all resources share.

    :cvar world: DSS of this process
    :cvar steps: Number of steps
    """

    world: ClassVar[World]
    auth: ClassVar[Any]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.world.reset()
        self.truth = self.world.truth
        self.api = DSSAPI(f"{HOME}/v1", auth=self.auth, creator_uid=7)
        self.numbers = count()
        self.directory = Directory(self.world.directory)
        self.current: Upload | None = None
        self.last: Upload | None = None

    @initialize(processes=st.sampled_from([0, 0, 0, 1, 3]), seed=st.integers(0, 99))
    def files(self, processes: int, seed: int) -> None:
        """Start processes with stale caches, or none; create files, bundles and collections that can be changed."""
        self.world.start_processes(processes, seed)
        for number, (uuid, content) in enumerate(zip(FILES[:3], CONTENTS, strict=False)):
            for replica in ("aws", "gcp"):
                url = self._stage(replica, number, content, "text/plain", "good")
                for version in VERSIONS[:2]:
                    self._create(self.api.put_file(uuid, version, source_url=url))
        members = [(f"n{number}", FILES[number % 3], VERSIONS[number % 2], number % 3 > 0) for number in range(6)]
        links = [{"type": "file", "uuid": uuid, "version": VERSIONS[0]} for uuid in FILES[:3]]
        for replica in ("aws", "gcp"):
            for number in (0, 1):
                bundle, collection, version = BUNDLES[number], COLLECTIONS[number + 1], VERSIONS[number]
                files, contents = map(file_dict, members[number * 2 :]), links[number:]
                self._create(self.api.put_bundle(bundle, version, replica=replica, files=files))
                self._create(
                    self.api.put_collection(
                        collection, version, replica=replica, name="x", description="d", contents=contents
                    )
                )

    def _create(self, call: Any) -> None:
        out = self.world.run(call)
        assert out.error is None, out

    def teardown(self) -> None:
        """Compare all records."""
        self.world.settle()
        self.world.check()

    def run(self, call: Any, faults: Faults = (), **options: Any) -> Outcome:
        """Run a call."""
        return self.world.run(call, faults, **options)

    def single(self, out: Outcome, accept: set[int], *, gone: bool = False) -> bool:
        """Check the end of a call of one exchange; return whether it succeeded."""
        if out.killed:
            return False
        seen, error = out.last.seen, out.error
        accept = set() if seen.unusual else accept
        unclear_before = any(one.seen.is_unclear for one in out.log[:-1])
        if seen.status in accept or (gone and seen.status == 404 and seen.known_form and unclear_before):
            assert error is None, f"an error in spite of success: {out}"
            return True
        self.failed(out, error, seen.error())
        assert isinstance(error, DSSError)
        assert error.maybe_done == out.unclear, f"maybe_done: {out}"
        assert error.maybe_done or not out.effects, f"done in spite of the error: {out}"
        return False

    def failed(self, out: Outcome, error: Exception | None, expected: tuple[type[DSSError], bool]) -> None:
        """Check class and permanence of an error."""
        assert type(error) is expected[0], f"expected {expected[0].__name__}: {out}"
        assert isinstance(error, DSSError)
        assert error.permanent == expected[1], f"expected permanent={expected[1]}: {out}"

    def justified(self, out: Outcome) -> None:
        """Check that the permanence of an error of several exchanges has a reason."""
        error = out.error
        assert isinstance(error, DSSError), out
        reasons = {one.seen.error()[1] for one in out.log if one.seen.status not in {200, 201, 206}}
        assert error.permanent in reasons, f"permanent={error.permanent} without reason: {out}"

    # World

    @step(seconds=[1.0, 5.0, 31.0], restart=[False, False, True])
    def wait(self, seconds: float, restart: bool) -> None:
        """Let time pass; the DSS may restart."""
        self.world.advance(seconds)
        if restart:
            self.world.restart()

    def _stage(self, replica: str, slot: int, content: bytes, content_type: str, quality: str) -> str:
        scheme = {"aws": "s3", "gcp": "gs"}[replica]
        url, labels = f"{scheme}://staging/{slot}", dict(sums(content))
        if quality == "wrong":
            labels["hca-dss-crc32c"] = "00000001"
        elif quality == "missing":
            del labels["hca-dss-sha1"]
        self.world.server.staging[replica].objects[url] = content, content_type, labels
        return url
