"""Listening sockets, bound before anything else starts so that a port in use is reported immediately."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


class PortInUseError(Exception):
    """A port is already in use."""


def bind(port: int, option: str) -> socket.socket:
    """Return a socket that listens on 127.0.0.1.

    :param port: port number; 0 for any free port
    :param option: command-line option that sets the port, for the error message
    :raises PortInUseError: when the port is in use
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by each connection. Without it a response with a body waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise PortInUseError(f"port {port} is in use: choose another with {option}, or 0 for any free one") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a bound socket."""
    return f"http://{HOST}:{listener.getsockname()[1]}"
