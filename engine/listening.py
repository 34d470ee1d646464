"""Listening sockets, and the node's secret for what is shown to strangers: what every service that listens shares."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from engine.contract.messages import Text, message

log = structlog.get_logger(__name__)

BACKLOG = 1024
"""Connections that may wait to be accepted."""
PAUSE_S = 0.5
"""Before the next connection is accepted when the system has no room for one."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))


def keep_alive(connection: socket.socket) -> None:
    """Have the system notice within minutes that the other side is gone. Accepted sockets inherit it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def listen(host: str, port: int, *, datagrams: bool = False) -> socket.socket:
    """A listening socket, or one for ``datagrams``; both IP families for ``::``. Raises OSError saying what is wrong
    with address or port."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM)
    try:
        if not datagrams:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keep_alive(listener)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        if not datagrams:
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = {
            errno.EADDRINUSE: message(Text.PORT_IN_USE, port=port),
            errno.EADDRNOTAVAIL: message(Text.NO_SUCH_ADDRESS, address=host),
            errno.EACCES: message(Text.PORT_OF_ROOT, port=port),
        }.get(
            error.errno or 0,
            message(Text.CANNOT_LISTEN, address=host, port=port, reason=error.strerror or str(error)),
        )
        raise OSError(error.errno, reason) from None
    listener.setblocking(False)
    return listener


async def accept(listener: socket.socket, take: Callable[[socket.socket, tuple[Any, ...]], None]) -> None:
    """Give each connection with its address to ``take``, until cancelled; then the listener is closed."""
    loop = asyncio.get_running_loop()
    with listener:  # closed when nothing waits for it any more
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor is left
                log.warning('connection not accepted', error=error.strerror or str(error))
                await asyncio.sleep(PAUSE_S)
                continue
            take(connection, peer)


def secret(folder: Path) -> bytes:
    """A secret that outlives restarts, for the salts shown for unknown users; in ``folder``. With IMP_SECRET_KEY all
    nodes agree."""
    if key := os.environ.get('IMP_SECRET_KEY'):
        return hmac.digest(key.encode(), b'unknown users', hashlib.sha256)
    path = folder / 'scram-secret'
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, 'wb') as file:
            file.write(os.urandom(32))
    return path.read_bytes()
