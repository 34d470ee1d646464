"""Sending and receiving at once over one TLS socket, from one thread: floods of stanzas and what comes back."""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Iterable

from tests.services.rawclient import RawClient


def pump(client: RawClient, stanzas: Iterable[bytes], until: bytes, timeout_s: float = 30) -> bytes:
    """Send ``stanzas`` as fast as the server takes them while reading; everything read up to ``until``.

    Fails when ``until`` does not come in time or the server closes before.
    """
    source = iter(stanzas)
    pending = memoryview(b'')
    more = True
    seen: list[bytes] = []
    tail = b''
    client.socket.setblocking(False)
    deadline = time.monotonic() + timeout_s
    try:
        while until not in tail:
            assert time.monotonic() < deadline, f'no {until!r} within {timeout_s:.0f} s; the end was {tail[-200:]!r}'
            while more and len(pending) < 32_768:
                part = next(source, None)
                more = part is not None
                pending = memoryview(bytes(pending) + (part or b''))
            busy = False
            try:
                data = client.socket.recv(262_144)
                assert data, f'closed before {until!r}; the end was {tail[-200:]!r}'
                seen.append(data)
                tail = tail[-len(until) :] + data
                busy = True
            except (ssl.SSLWantReadError, BlockingIOError):
                pass
            if pending:
                try:
                    pending = pending[client.socket.send(pending[:65_536]) :]
                    busy = True
                except (ssl.SSLWantWriteError, BlockingIOError):
                    pass
            if not busy:
                select.select([client.socket], [client.socket] if pending else [], [], 0.05)
    finally:
        client.socket.setblocking(True)
        client.socket.settimeout(10)
    return b''.join(seen)
