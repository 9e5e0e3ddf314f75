"""`python -m airflow_provider_hca.local`: options, the state directory and ports; everything that can be refused."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import TYPE_CHECKING

from .settings import parse
from .sockets import PortTakenError, bind

if TYPE_CHECKING:
    import argparse
    import socket
    from pathlib import Path


class _StateTakenError(Exception):
    """Another local DSS works in the state directory."""


def main(arguments: list[str] | None = None) -> None:
    """Run the local DSS until INT or TERM.

    :param arguments: the command line without the program's name; that of the process by default
    """
    serve(parse(arguments))


def serve(options: argparse.Namespace) -> None:
    """Run the local DSS until INT or TERM.

    :param options: all of `settings.OPTIONS`
    """
    try:
        state = options.state.resolve()
        lock = _own(state)
        listeners = _bind(options)
    except (PortTakenError, _StateTakenError) as error:
        sys.exit(_complain(str(error)))
    except OSError as error:
        sys.exit(_complain(f"{options.state} cannot be the state directory: {error.strerror}"))
    try:
        # imported here: it takes two seconds, and a wrong option is to be told at once
        from .process import run

        interrupted = run(options, state, listeners)
    except ModuleNotFoundError as error:
        sys.exit(_complain(f"{error.name} is missing: pip install 'airflow-provider-hca[local]'"))
    except KeyboardInterrupt:  # before it was ready; later the signal has its handler
        interrupted = True
    finally:
        os.close(lock)
    if interrupted:
        print("dss-local: stopped", file=sys.stderr)
        sys.exit(130)  # as a shell says of what ended by Ctrl-C


def _complain(sentence: str) -> int:
    print(f"dss-local: {sentence}", file=sys.stderr)
    return 2


def _own(state: Path) -> int:
    """Make the state directory and take it for this process; the lock falls with the process, however it ends."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(state / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise _StateTakenError(f"another local DSS is running in {state}") from None
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
