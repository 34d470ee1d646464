"""Counters of a node and the Prometheus endpoint that shows them."""

from __future__ import annotations


class Counters:
    """Plain integers, raised in place (``counters.messages_routed += 1``): no cost beyond that on the stanza path.

    They only ever grow. Gauges (sessions, users online, loop lag) are asked for when the endpoint is read.
    """

    __slots__ = (
        'auth_failures',
        'auth_success',
        'auth_throttled',
        'bytes_in',
        'bytes_out',
        'connections',
        'connections_refused',
        'iq_in',
        'logins',
        'messages_in',
        'messages_offline',
        'messages_refused',
        'messages_routed',
        'presence_in',
        'presence_out',
        'roster_pushes',
        'stanzas_in',
        'stanzas_out',
        'stream_errors',
        'subscriptions_refused',
        'tls_failures',
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    auth_failures: int
    auth_success: int
    auth_throttled: int
    bytes_in: int
    bytes_out: int
    connections: int
    connections_refused: int
    iq_in: int
    logins: int
    messages_in: int
    messages_offline: int
    messages_refused: int
    messages_routed: int
    presence_in: int
    presence_out: int
    roster_pushes: int
    stanzas_in: int
    stanzas_out: int
    stream_errors: int
    subscriptions_refused: int
    tls_failures: int
