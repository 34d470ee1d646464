"""TLS on a client connection: from its first byte, or when the client has asked for it (STARTTLS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from engine.supervisor import describe

if TYPE_CHECKING:
    from engine.services.connection_manager.connection import Connection

log = structlog.get_logger(__name__)

LINGER_S = 5.0
"""How long a closing connection may take to get rid of its last bytes."""


def begin(connection: Connection, high_water: int) -> None:
    """Do the handshake; what was written before leaves first. ``high_water``: what the transport may hold then."""
    connection.flush()
    if connection._early is None:
        connection._early = []
    if not connection._transport.is_closing():
        connection._transport.pause_reading()
        connection.manager.task(_handshake(connection, high_water))


def _give_first_bytes(connection: Connection) -> None:
    """The first bytes of direct TLS may have been read before TLS was there to take them."""
    first, connection._early = connection._early, []
    below = connection._raw.get_protocol()
    for data in first or ():
        below.get_buffer(len(data))[: len(data)] = data
        below.buffer_updated(len(data))


async def _handshake(connection: Connection, high_water: int) -> None:
    manager, loop = connection.manager, connection.manager.loop
    upgrade = loop.start_tls(
        connection._raw,
        connection,
        manager.tls,
        server_side=True,
        ssl_handshake_timeout=manager.settings.limits.before_auth_s,
        ssl_shutdown_timeout=LINGER_S,
    )
    try:
        task = loop.create_task(upgrade)
        if connection.direct:
            # Two turns on: after TLS has taken the transport (first turn) and was told so (second), and before the
            # next read, which the same second turn allows.
            loop.call_soon(loop.call_soon, _give_first_bytes, connection)
        transport = await task
    except (OSError, TimeoutError, RuntimeError) as error:  # ssl.SSLError is an OSError
        manager.counters.tls_failures += 1
        log.debug('TLS handshake failed', address=connection.address, error=describe(error))
        connection._raw.abort()
        # Before the end of the handshake nobody else tells that the socket is gone.
        connection.connection_lost(error)
        del task  # it holds the exception, whose traceback holds this frame: garbage only the collector would find
        return
    connection._transport = transport
    early, connection._early = connection._early, None
    if connection._ended or transport is None or connection._stream is None:
        connection._raw.abort()
        connection.connection_lost(None)
        return
    transport.set_write_buffer_limits(high=high_water)
    connection._full = False
    if connection._paused:
        transport.pause_reading()
    connection._stream.tls_established(manager.bindings, manager.identities(transport))
    if manager.names is not None:
        manager.names.note(connection.address)
    connection.flush()
    for data in early or ():
        connection.data_received(data)
