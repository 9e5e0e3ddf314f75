"""The command `dss-local`: parse options, lock the state directory, bind the ports, run."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import TYPE_CHECKING

from .settings import parse
from .sockets import PortInUseError, bind

if TYPE_CHECKING:
    import argparse
    import socket
    from pathlib import Path


class _StateLockedError(Exception):
    """Another local DSS uses the state directory."""


def main(arguments: list[str] | None = None) -> None:
    """Run the local DSS until SIGINT or SIGTERM.

    :param arguments: command line without the program name; that of the process if None
    """
    serve(parse(arguments))


def serve(options: argparse.Namespace) -> None:
    """Run the local DSS until SIGINT or SIGTERM.

    :param options: parsed `settings.OPTIONS`
    """
    try:
        state = options.state.resolve()
        lock = _lock_state(state)
        listeners = _bind(options)
    except (PortInUseError, _StateLockedError) as error:
        sys.exit(_print_error(str(error)))
    except OSError as error:
        sys.exit(_print_error(f"{options.state} cannot be the state directory: {error.strerror}"))
    try:
        # Imported here because it takes 2 s: errors in the options are reported first.
        from .process import run

        interrupted = run(options, state, listeners)
    except ModuleNotFoundError as error:
        sys.exit(_print_error(f"{error.name} is missing: pip install 'airflow-provider-hca[local]'"))
    except KeyboardInterrupt:  # during start-up, before the signal handlers are installed
        interrupted = True
    finally:
        os.close(lock)
    if interrupted:
        print("dss-local: stopped", file=sys.stderr)
        sys.exit(130)  # the shell's exit code for SIGINT


def _print_error(message: str) -> int:
    print(f"dss-local: {message}", file=sys.stderr)
    return 2


def _lock_state(state: Path) -> int:
    """Create and lock the state directory; the kernel releases the lock when the process ends, even by SIGKILL."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(state / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise _StateLockedError(f"another local DSS is running in {state}") from None
    return lock


def _bind(options: argparse.Namespace) -> dict[str, socket.socket]:
    listeners = {
        "dss_url": bind(options.port, "--port"),
        "s3_url": bind(options.s3_port, "--s3-port"),
        "objects_url": bind(options.objects_port, "--objects-port"),
    }
    if options.gcs:
        listeners["gcs_url"] = bind(options.gcs_port, "--gcs-port")
    return listeners


if __name__ == "__main__":
    main()
