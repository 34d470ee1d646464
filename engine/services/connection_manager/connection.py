"""One client connection: socket and TLS on one side, ``ClientStream`` and the XCP Router on the other."""

from __future__ import annotations

import asyncio


class Connection(asyncio.Protocol):
    """The object a ``Session`` writes to.

    ``write`` collects; everything collected is sent once per turn of the event loop, in order. While the peer does
    not read fast enough ``congested`` is True; then whoever is being served at that moment (the sender of the
    stanza) is paused until the backlog is gone, so nothing needs to be dropped and callers need not look.

    The Connection Manager calls the router: ``bind(user, resource, connection)`` (coroutine or plain; may raise
    ``BindRefused(condition)``), ``receive(session, stanza)`` for every stanza (plain call), ``unbind(session)`` exactly
    once when the connection has ended for whatever reason (plain call, also after ``Session.close``).
    """

    __slots__ = ('address', 'congested', 'session')

    address: str
    """IP address of the client."""
    congested: bool

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""
        raise NotImplementedError

    def close(self, condition: str | None = None, text: str = '') -> None:
        """End the stream after sending what is queued; with ``condition``, as a stream error (RFC 6120 4.9.3)."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stop reading from the client. Counted: as many ``resume`` calls are needed."""
        raise NotImplementedError

    def resume(self) -> None:
        """Read again."""
        raise NotImplementedError
