"""`python -m tests.model`: run the model for some minutes."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from airflow_provider_hca.client.api import bundle_changes, collection_changes
from airflow_provider_hca.local import checksums as local_checksums
from airflow_provider_hca.local import staging as local_staging
from airflow_provider_hca.upload import checksums, stager
from airflow_provider_hca.upload.staging import parts

from .checksums import PART
from .choices import BATCH
from .clock import Clock
from .machine import Model
from .world import ModelAuth, World

_STEPS = 100  # of one example
_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory: a commit costs no write to disk
_EXAMPLES = 10  # of one seed; after ten, hypothesis repeats examples with small changes


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="scripts/model", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="start no example after this time (%(default)s)")
    parser.add_argument("--steps", type=int, default=10**12, help="start no example after as many steps")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first examples (random by default)")
    parser.add_argument("--violations", type=int, default=5, help="end after so many (%(default)s)")
    options = parser.parse_args()
    first = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    sys.exit(0 if run(options.minutes * 60, options.steps, options.violations, first) else 1)


def run(seconds: float, steps: int, violations: int, first: int) -> bool:
    """Run examples; return whether no check failed.

    :param first: Seed of the first examples; each next ones have the next number
    """
    logging.disable(logging.CRITICAL)
    number, clock = first, Clock()
    _make_small()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as state, clock.installed():
        world = Model.world = World(Path(state), clock)
        Model.auth = ModelAuth(world.tokens)
        print(f"seed {first}", flush=True)
        failed, shown = list[int](), started
        while len(failed) < violations and time.monotonic() - started < seconds and Model.steps < steps:
            if not _examples(number):
                failed.append(number)
            number += 1
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                print(f"after {shown - started:,.0f} s: {Model.steps:,} steps", flush=True)
        taken, busy = time.monotonic() - started, time.process_time()
    print(
        f"seeds {first} to {number - 1}: {Model.steps:,} steps in {taken:,.0f} s ({Model.steps / busy:,.0f} per "
        f"second of CPU time), {world.calls:,} calls, {world.requests:,} requests"
    )
    for kind, count in sorted(world.counts.items()):
        print(f"  {count:>9,} {kind}")
    print(f"violations with the seeds {', '.join(map(str, failed))}" if failed else "no violation")
    return not failed


def _make_small() -> None:
    """Lower the limits above which there are several PATCHes, parts or reads."""
    patched: list[tuple[Any, str, int]] = [
        (bundle_changes, "MAX_CHANGES", BATCH),
        (collection_changes, "MAX_CHANGES", BATCH),
        (stager, "_IN_MEMORY", 500),
        (local_checksums, "MIB", PART),
        *((module, "PART_SIZE", PART) for module in (checksums, stager, parts, local_checksums, local_staging)),
    ]
    for module, name, value in patched:
        assert hasattr(module, name), f"{module.__name__} has no {name}"
        setattr(module, name, value)


def _examples(number: int) -> bool:
    options = settings(
        max_examples=_EXAMPLES,
        stateful_step_count=_STEPS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        print_blob=False,
        verbosity=Verbosity.quiet,
    )
    try:
        run_state_machine_as_test(seed(number)(type("Model", (Model,), {})), settings=options)
    except Exception as error:  # noqa: BLE001 - whatever it is
        traceback.print_exception(error, limit=-4)
        return False
    return True


if __name__ == "__main__":
    main()
