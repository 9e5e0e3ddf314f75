"""`python -m tests.model.mutants`: check that the model finds errors that are put into the code.

Each mutant is a copy of the package with one changed place. The model must report a violation within some steps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PACKAGE = "airflow_provider_hca"
_RETRY, _PATCHING = "client/retry.py", "client/api/patching.py"
_FILES, _BUNDLES, _COLLECTIONS = (f"client/api/{name}.py" for name in ("files", "bundles", "collections"))
_CHANGES, _STAGER, _UPLOADER = "client/api/bundle_changes.py", "upload/stager.py", "upload/uploader.py"

# File, text, and the text that replaces it
MUTANTS: list[tuple[str, str, str]] = [
    (_RETRY, "frozenset({429, 500, 502, 503, 504})", "frozenset({429, 500, 503, 504})"),
    (_RETRY, "frozenset({429, 500, 502, 503, 504})", "frozenset({408, 429, 500, 502, 503, 504})"),
    (_RETRY, '_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})', '_IDEMPOTENT = frozenset({"GET", "HEAD"})'),
    (_RETRY, '"PUT", "DELETE"})', '"PUT", "DELETE", "PATCH"})'),
    (_RETRY, '_NOT_SENT = frozenset({"dns", "refused", "connect timeout"})', '_NOT_SENT = frozenset({"dns", "refused"})'),  # noqa: E501 - text as in the file
    (_RETRY, '{"dns", "refused", "connect timeout"}', '{"dns", "refused", "connect timeout", "dropped"}'),
    (_RETRY, "attempts: int = 10", "attempts: int = 9"),
    (_RETRY, "seconds: float = 50.0", "seconds: float = 60.0"),
    (_RETRY, "if attempt >= self.attempts:", "if attempt > self.attempts:"),
    (_RETRY, "2 ** (attempt - 1)", "2 ** attempt"),
    (_RETRY, "retry_after * random.uniform(1, 1.1)", "retry_after * random.uniform(0.5, 1)"),
    (_RETRY, "if elapsed + delay <= self.seconds", "if elapsed <= self.seconds"),
    (_RETRY, "progress.repeatable or not unclear", "True"),
    (_RETRY, "progress.repeatable or not unclear", "progress.repeatable"),
    (_RETRY, "failure.maybe_done = progress.maybe_done or unclear", "failure.maybe_done = unclear"),
    (_RETRY, "        progress.attempt += 1\n", ""),
    (_RETRY, "            progress.renewed = True\n", ""),
    (_RETRY, "deletes and progress.maybe_done and", "deletes and"),
    (_RETRY, "deletes and progress.maybe_done and _is_gone(response)", "False"),
    (_RETRY, '{"read_only", *_REFUSALS}', "_REFUSALS"),
    (_RETRY, "failure.status >= 500 and failure.code", "failure.status > 501 and failure.code"),
    (_RETRY, "permanent=response.status >= 300", "permanent=False"),
    (_RETRY, "unexpected.maybe_done = response.status < 300", "unexpected.maybe_done = False"),
    (_RETRY, "asked = retry_after(response) if response else None", "asked = None"),
    (_PATCHING, "_ATTEMPTS = 2", "_ATTEMPTS = 1"),
    (_PATCHING, "_POLL_SECONDS = 35.0", "_POLL_SECONDS = 5.0"),
    (_PATCHING, "is_last = not repeat or time.monotonic() >= deadline", "is_last = not repeat or time.monotonic() > deadline - 10.0"),  # noqa: E501 - text as in the file
    (_PATCHING, "            if version:\n", "            if not version:\n"),
    (_PATCHING, "if not is_unclear(error):", "if False:"),
    (_PATCHING, "repeat=_may_continue(failure)", "repeat=False"),
    (_PATCHING, "in {502, 504}", "in {502}"),
    (_PATCHING, "version = yield from _poll(check, repeat=_may_continue(failure))", "version = None"),
    (_CHANGES, "if first not in listed:", "if False:"),
    (_CHANGES, "return staying | adds", "return staying"),
    (_CHANGES, "return staying | adds", "return current | adds"),
    (_CHANGES, "yield from self._resume(progress, {*adds, *removes})", "pass"),
    (_CHANGES, "remaining <= changed and len(remaining) < len(before)", "len(remaining) < len(before)"),
    (_CHANGES, "if progress.patches and progress.files == progress.target:", "if False:"),
    (_CHANGES, "while not (progress.is_sure and progress", "while not (progress"),
    (_CHANGES, "            is_stored = yield from self._compare(bundle, replica)\n", "            is_stored = True\n"),
    (_CHANGES, "except DSSConflictError:\n            return False", "except DSSConflictError:\n            return True"),  # noqa: E501 - text as in the file
    (_CHANGES, 'occupied = {name for name, _, _ in remove[size:]}', "occupied = set[str]()"),
    (_CHANGES, "if removed.isdisjoint(files) and added", "if added"),
    (_CHANGES, "checked = {*progress.known}", "checked = set[str]()"),
    (_CHANGES, "progress.patches, error) from error", "progress.patches + 1, error) from error"),
    (_CHANGES, "len(target), progress.patches)", "len(files), progress.patches)"),
    (_FILES, 'outcome = {200: "identical", 201: "created"', 'outcome = {200: "created", 201: "identical"'),
    (_FILES, "if sha256 is not None and metadata.sha256 != sha256:", "if False:"),
    (_FILES, "if error.status not in {422, 500}:", "if error.status != 422:"),
    (_FILES, "            if remaining <= 0:\n                raise DSSCopyError.late", "            if False:\n                raise DSSCopyError.late"),  # noqa: E501 - text as in the file
    (_FILES, "deadline, interval = time.monotonic() + seconds,", "deadline, interval = time.monotonic(),"),
    (_FILES, "        content.check(metadata)\n", ""),
    (_FILES, "if content.size > known:", "if False:"),
    (_FILES, "attempt, started = 1, time.monotonic()\n                delay", "pass\n                delay"),
    (_FILES, "error.status in _EXPIRED and attempt == 1", "error.status in _EXPIRED"),
    (_BUNDLES, "may_be_stored = error.maybe_done and not isinstance(error, DSSConflictError)", "may_be_stored = False"),
    (_BUNDLES, "stored == members and", "sorted(map(str, stored)) >= [] and"),
    (_BUNDLES, 'and bundle.get("creator_uid") == creator_uid', ""),
    (_BUNDLES, 'error.code != "file_missing" or remaining <= 0', "True"),
    (_BUNDLES, 'error.code != "file_missing" or remaining <= 0', 'error.code != "file_missing"'),
    (_BUNDLES, "accept=DONE, authorize=True)", "accept=DONE)"),
    (_BUNDLES, '> newer_than', ">= newer_than"),
    (_COLLECTIONS, "authorize=True, deletes=True)", "authorize=True)"),
    (_COLLECTIONS, '"remove_contents": [existing_item(item) for item in remove_contents],', '"remove_contents": [],'),
    (_COLLECTIONS, '"details": dict(details or {})', '"details": {}'),
    (_STAGER, "key = found.get(self.staging.stored_sum(sums))", "key = next(iter(found.values()), None)"),
    (_STAGER, "(stored.sha256, stored.content_type) == (sums.sha256, file.content_type)", "True"),
    (_STAGER, "        item.registered = True\n", ""),
    (_STAGER, "self.retry(partial(self.staging.label, key, sums))", "pass"),
    (_STAGER, "_check_same(file, sums.sha256, self._creator_uid, stored)", "pass"),
    (_STAGER, "if not error.permanent:", "if True:"),
    (_STAGER, "                if delay is None:\n                    raise\n", "                if True:\n                    raise\n"),  # noqa: E501 - text as in the file
    (_STAGER, "                    directory.check_unchanged(file)\n                    stager", "                    stager"),  # noqa: E501 - text as in the file
    (_STAGER, "needed=item.stored is not None or any(found)", "needed=False"),
    (_UPLOADER, "        self._stage(plan, items, report, resume=resume)\n", ""),
    (_UPLOADER, "to_register = [item for item in items if not item.registered]", "to_register = [*items]"),
    (_UPLOADER, 'item.copying = put.outcome == "copying"', "item.copying = False"),
    (_UPLOADER, "error.status not in {404, 422, 500} or", "error.status not in {404} or"),
    (_UPLOADER, "if self._options.delete_staged:", "if True:"),
    (_UPLOADER, "if self._options.delete_staged:", "if False:"),
    (_UPLOADER, "permanent=any(", "permanent=all("),
    (_UPLOADER, "            self._raise(self._bulk(\"look_up\", items, self._look_up, report), items)\n", "            pass\n"),  # noqa: E501 - text as in the file
    (_UPLOADER, "        self.await_copies(plan, report)\n", ""),
    (_UPLOADER, 'report.created = self._put_bundle(plan).outcome == "created"', "report.created = bool(self._put_bundle(plan))"),  # noqa: E501 - text as in the file
    (_UPLOADER, "max(0.0, deadline - time.monotonic())", "0.0"),
]  # fmt: skip

# Mutants that change nothing that a caller sees, with the reason.
EQUIVALENT: dict[int, str] = {
    72: "the same check after `finish` raises too, and nothing registers the object",
}


@dataclass(frozen=True)
class Result:
    """The result for a mutant."""

    number: int
    killed: bool
    seconds: float
    violation: str


def main() -> None:
    """Parse the command line and run all mutants."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("numbers", type=int, nargs="*", help="numbers of the mutants; all by default")
    parser.add_argument("--steps", type=int, default=15_000, help="steps of the model for each (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the model (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="mutants at once (%(default)s)")
    options = parser.parse_args()
    check_texts()
    numbers = options.numbers or range(len(MUTANTS))
    unchanged = run(None, options.steps, options.seed)
    if unchanged.killed:
        raise SystemExit(f"the model finds a violation in the present code: {unchanged.violation}")
    with ThreadPoolExecutor(options.workers) as pool:
        results = []
        for result in pool.map(lambda number: run(number, options.steps, options.seed), numbers):
            results.append(result)
            print(_line(result), flush=True)
    survived = [result.number for result in results if not result.killed and result.number not in EQUIVALENT]
    print(
        f"{sum(result.killed for result in results)} of {len(results)} mutants killed; survived: {survived or 'none'}"
    )
    sys.exit(1 if survived else 0)


def check_texts() -> None:
    """Check that each mutant changes exactly one place of the present code."""
    for number, (file, old, new) in enumerate(MUTANTS):
        count = (_ROOT / _PACKAGE / file).read_text().count(old)
        if count != 1 or old == new:
            raise SystemExit(f"mutant {number}: {file} must have {old!r} once, got {count} times: correct the list")


def run(number: int | None, steps: int, seed: int) -> Result:
    """Run the model on a copy of the package with a mutant, or without if None."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dss-mutant-") as place:
        for folder in (_PACKAGE, "tests"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(_ROOT / folder, Path(place) / folder, ignore=ignore)
        if number is not None:
            file, old, new = MUTANTS[number]
            path = Path(place) / _PACKAGE / file
            path.write_text(path.read_text().replace(old, new))
        command = [sys.executable, "-m", "tests.model", "--minutes", "60", "--steps", str(steps), "--seed", str(seed)]
        command += ["--violations", "1"]
        environment = {**os.environ, "PYTHONPATH": place}
        result = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in (result.stdout + result.stderr).splitlines() if "Error" in line]
    killed = "violations with the seeds" in result.stdout
    if result.returncode and not killed:
        raise SystemExit(f"mutant {number} does not run ({result.returncode}): {result.stderr[-2000:]}")
    return Result(-1 if number is None else number, killed, time.monotonic() - started, lines[-1] if lines else "")


def _line(result: Result) -> str:
    file, old, new = (text.strip().replace("\n", " ") for text in MUTANTS[result.number])
    state = "killed" if result.killed else "survived"
    if result.number in EQUIVALENT:
        state += f" (equivalent: {EQUIVALENT[result.number]})"
    reason = f"\n      {result.violation:.150}" if result.killed else ""
    return f"{result.number:3} {state} in {result.seconds:.0f} s: {file}: {old!r} -> {new!r}{reason}"


if __name__ == "__main__":
    main()
