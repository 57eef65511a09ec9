"""The one listening socket of a server, bound before anything else is touched.

It is bound plainly, without ``SO_REUSEPORT``: that option would let a second server on the same
port take half of the requests without anybody noticing. Workers inherit the socket.

**On a loopback address** every connection is one of this machine, a proxy's most of the time. Where
the system's congestion control is BBR the kernel would time each packet by an estimate of a path
that is not there, which took downloads a fifth of their speed. Such a listener has Reno instead,
which sends as fast as the other side reads, and connections have what their listener has. Anybody
else's connections keep what the operator chose.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import Final

from registry.cli.exits import CommandError

PACED: Final = b"bbr"
UNPACED: Final = b"reno"
"""Every kernel has it and allows it to everybody."""

BACKLOG: Final = 1024
"""Connections the kernel holds for us while every worker is busy or being replaced."""


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; of a name's several addresses the first one counts, IPv4 before IPv6."""
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except (socket.gaierror, UnicodeError) as error:
        raise CommandError(f"cannot listen on host {host!r}: {error}") from error
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        # Lets a restart bind while connections of its predecessor are still in TIME_WAIT; on Linux
        # it does not let two servers listen.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        _spare_pacing(listener)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CommandError(_sentence(error, host, port)) from error
    listener.setblocking(False)
    return listener


def _spare_pacing(listener: socket.socket) -> None:
    """Let nothing wait that never leaves this machine; a hint, so whoever refuses it may."""
    option = getattr(socket, "TCP_CONGESTION", None)
    bound = str(listener.getsockname()[0])
    if option is None or not (bound.startswith("127.") or bound == "::1"):
        return
    with suppress(OSError):
        if listener.getsockopt(socket.IPPROTO_TCP, option, 16).startswith(PACED):
            listener.setsockopt(socket.IPPROTO_TCP, option, UNPACED)


def url_of(listener: socket.socket, host: str, *, is_secure: bool = False) -> str:
    """The URL a person on this machine would use."""
    bound, port = listener.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(bound)  # noqa: S104  # compared, not bound
    if name is None:
        name = f"[{bound}]" if ":" in bound else bound
    scheme = "https" if is_secure else "http"
    return f"{scheme}://{'localhost' if host == 'localhost' else name}:{port}"


def _sentence(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; choose one with --port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs more rights than this user has; choose one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine"
    return f"cannot listen on {host} port {port}: {error.strerror}"
