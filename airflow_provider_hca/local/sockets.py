"""The ports: bound before anything starts, so that one in use is found at once."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


class PortTakenError(Exception):
    """A port is in use."""


def bind(port: int, option: str) -> socket.socket:
    """Return a socket bound to a port of this machine only.

    :param port: the port, 0 for a free one
    :param option: the option that says which, for the error message
    :raises PortTakenError: when somebody has it
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by each connection; without it an answer with a body waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise PortTakenError(f"port {port} is in use: choose another with {option}, or 0 for any free one") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL under which a socket is reached.

    :param listener: a bound socket
    """
    return f"http://{HOST}:{listener.getsockname()[1]}"
