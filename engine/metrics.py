"""Counters of a node and the Prometheus endpoint that shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from engine import capacity
from engine.contract.services import CONNECTION_MANAGER, TEXT_CONFERENCE_MANAGER, XCP_ROUTER

if TYPE_CHECKING:
    from engine.node import Node


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
        'component_in',
        'component_out',
        'connections',
        'connections_refused',
        'iq_in',
        'logins',
        'mdm_flushed',
        'mdm_flushes',
        'mdm_flushes_limit',
        'mdm_queued_ms',
        'messages_archived',
        'messages_copied',
        'messages_in',
        'messages_offline',
        'messages_refused',
        'messages_rescued',
        'messages_returned',
        'messages_routed',
        'messages_unarchived',
        'nodes_in',
        'nodes_out',
        'presence_in',
        'presence_out',
        'pubsub_notifications',
        'pubsub_published',
        'push_failed',
        'push_sent',
        'remote_in',
        'remote_out',
        'remote_presence',
        'remote_refused',
        'resumptions_refused',
        'reverse_lookups_failed',
        'roster_pushes',
        's2s_connections',
        's2s_connections_refused',
        's2s_in',
        's2s_out',
        's2s_stream_errors',
        's2s_tls_failures',
        'sip_messages_out',
        'sip_requests_in',
        'sip_requests_refused',
        'stanzas_in',
        'stanzas_out',
        'stream_errors',
        'streams_expired',
        'streams_resumed',
        'subscriptions_refused',
        'tc_messages_in',
        'tc_messages_out',
        'tls_failures',
        'web_refused',
        'web_requests',
        'websockets',
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
    mdm_flushed: int
    mdm_flushes: int
    mdm_flushes_limit: int
    mdm_queued_ms: int
    messages_archived: int
    messages_copied: int
    messages_in: int
    messages_offline: int
    messages_refused: int
    messages_rescued: int
    messages_returned: int
    messages_routed: int
    messages_unarchived: int
    nodes_in: int
    nodes_out: int
    presence_in: int
    presence_out: int
    pubsub_notifications: int
    pubsub_published: int
    push_failed: int
    push_sent: int
    remote_in: int
    remote_out: int
    remote_presence: int
    remote_refused: int
    resumptions_refused: int
    roster_pushes: int
    component_in: int
    component_out: int
    s2s_connections: int
    reverse_lookups_failed: int
    s2s_connections_refused: int
    s2s_in: int
    s2s_out: int
    s2s_stream_errors: int
    s2s_tls_failures: int
    stanzas_in: int
    stanzas_out: int
    stream_errors: int
    sip_messages_out: int
    sip_requests_in: int
    sip_requests_refused: int
    streams_expired: int
    streams_resumed: int
    subscriptions_refused: int
    tc_messages_in: int
    tc_messages_out: int
    tls_failures: int
    web_refused: int
    web_requests: int
    websockets: int


OBJECTS: dict[str, tuple[str, str, str]] = {
    # attribute: (object of the performance monitor, counter, help)
    'auth_failures': (
        'Cisco XCP Authentication Service',
        'AuthFailures',
        'Sign-ins refused for a wrong user or password',
    ),
    'auth_success': ('Cisco XCP Authentication Service', 'AuthSuccesses', 'Successful sign-ins'),
    'auth_throttled': ('Cisco XCP Authentication Service', 'AuthThrottled', 'Sign-ins refused after too many failures'),
    'bytes_in': ('Cisco XCP Connection Manager', 'BytesReceived', 'Bytes read from clients, after TLS'),
    'bytes_out': ('Cisco XCP Connection Manager', 'BytesSent', 'Bytes written to clients, before TLS'),
    'connections': ('Cisco XCP Connection Manager', 'ConnectionsAccepted', 'Connections taken'),
    'connections_refused': (
        'Cisco XCP Connection Manager',
        'ConnectionsRefused',
        'Connections over the limit per address',
    ),
    'iq_in': ('Cisco XCP Router', 'IqPackets', 'IQ stanzas from clients'),
    'logins': ('Cisco XCP Router', 'SessionsCreated', 'Sessions bound'),
    'mdm_flushed': ('Cisco XCP MDM', 'MDMBufferFlushPackets', 'Packets flushed from quiet mode buffers'),
    'mdm_flushes': ('Cisco XCP MDM', 'MDMBufferFlushes', 'Flushes of quiet mode buffers'),
    'mdm_flushes_limit': (
        'Cisco XCP MDM',
        'MDMBufferFlushesLimitReached',
        'Flushes because a quiet mode buffer, or all together, had reached the limit',
    ),
    'mdm_queued_ms': (
        'Cisco XCP MDM',
        'MDMBufferQueuedTime',
        'Milliseconds that flushed packets had waited in quiet mode buffers',
    ),
    'messages_archived': ('Cisco XCP Router', 'MessagesArchived', 'Messages written to archives'),
    'messages_copied': ('Cisco XCP Router', 'MessagesCopied', 'Copies of messages sent to further clients of a user'),
    'messages_in': ('Cisco XCP Router', 'MessagePackets', 'Messages from clients'),
    'messages_offline': ('Cisco XCP Router', 'MessagesOffline', 'Messages stored for users who are not signed in'),
    'messages_refused': ('Cisco XCP Router', 'MessagesRefused', 'Messages answered with an error'),
    'messages_rescued': (
        'Cisco XCP Router',
        'MessagesRescued',
        'Messages stored because the client did not receive them',
    ),
    'messages_returned': (
        'Cisco XCP Router',
        'MessagesReturned',
        'Messages returned because a lost client did not come back',
    ),
    'messages_routed': ('Cisco XCP Router', 'MessagesRouted', 'Messages delivered to clients'),
    'messages_unarchived': (
        'Cisco XCP Router',
        'MessagesNotArchived',
        'Messages that could not be written to an archive',
    ),
    'nodes_in': ('Cisco XCP Router', 'NodePacketsReceived', 'Stanzas from other nodes of the cluster'),
    'nodes_out': ('Cisco XCP Router', 'NodePacketsSent', 'Stanzas to other nodes of the cluster'),
    'presence_in': ('Cisco XCP Router', 'PresencePackets', 'Presence stanzas from clients'),
    'presence_out': ('Cisco Presence Engine', 'PresenceSent', 'Presence stanzas to clients'),
    'pubsub_notifications': ('Cisco XCP Router', 'PubSubNotifications', 'Publish-subscribe events sent'),
    'pubsub_published': ('Cisco XCP Router', 'PubSubItemsPublished', 'Publish-subscribe items published'),
    'push_failed': ('Cisco XCP Router', 'PushFailed', 'Push notifications that a push service refused'),
    'push_sent': ('Cisco XCP Router', 'PushSent', 'Push notifications handed to push services'),
    'remote_in': ('Cisco XCP Router', 'RemotePacketsReceived', 'Stanzas from other domains'),
    'remote_out': ('Cisco XCP Router', 'RemotePacketsSent', 'Stanzas to other domains'),
    'remote_presence': ('Cisco Presence Engine', 'RemotePresence', 'Presence of contacts at other servers'),
    'remote_refused': ('Cisco XCP Router', 'RemotePacketsRefused', 'Stanzas from outside with a forged sender'),
    'resumptions_refused': ('Cisco XCP Router', 'StreamResumptionsRefused', 'Streams that could not be resumed'),
    'roster_pushes': ('Cisco Presence Engine', 'RosterPushes', 'Changes of contact lists told to clients'),
    'component_in': (
        'Cisco XCP Router',
        'ComponentPacketsIn',
        'Stanzas from external components',
    ),
    'component_out': (
        'Cisco XCP Router',
        'ComponentPacketsOut',
        'Stanzas to external components',
    ),
    's2s_connections': (
        'Cisco XCP XMPP Federation Connection Manager',
        'ConnectionsAccepted',
        'Connections other servers made',
    ),
    'reverse_lookups_failed': (
        'Cisco XCP Connection Manager',
        'ReverseLookupsFailed',
        'Client addresses whose host name DNS did not tell',
    ),
    's2s_connections_refused': (
        'Cisco XCP XMPP Federation Connection Manager',
        'ConnectionsRefused',
        'Connections of other servers over the limit per address',
    ),
    's2s_in': (
        'Cisco XCP XMPP Federation Connection Manager',
        'StanzasReceived',
        'Stanzas from other servers',
    ),
    's2s_out': (
        'Cisco XCP XMPP Federation Connection Manager',
        'StanzasSent',
        'Stanzas to other servers',
    ),
    's2s_stream_errors': (
        'Cisco XCP XMPP Federation Connection Manager',
        'StreamErrors',
        'Streams with other servers ended with an error by this side',
    ),
    's2s_tls_failures': (
        'Cisco XCP XMPP Federation Connection Manager',
        'TlsFailures',
        'TLS handshakes with other servers that failed',
    ),
    'stanzas_in': ('Cisco XCP Connection Manager', 'StanzasReceived', 'Stanzas from clients'),
    'stanzas_out': ('Cisco XCP Connection Manager', 'StanzasSent', 'Writes of stanzas to clients'),
    'stream_errors': ('Cisco XCP Connection Manager', 'StreamErrors', 'Streams ended with an error'),
    'sip_messages_out': ('Cisco SIP Proxy', 'SIPMessagesOut', 'Instant messages sent to SIP clients'),
    'sip_requests_in': ('Cisco SIP Proxy', 'SIPRequestsIn', 'Requests from SIP clients and trunks'),
    'sip_requests_refused': (
        'Cisco SIP Proxy',
        'SIPRequestsRefused',
        'SIP requests from addresses that are neither in the Incoming ACL nor known by a certificate',
    ),
    'streams_expired': ('Cisco XCP Router', 'StreamsExpired', 'Lost clients that did not come back in time'),
    'streams_resumed': ('Cisco XCP Router', 'StreamsResumed', 'Streams that were resumed'),
    'subscriptions_refused': ('Cisco Presence Engine', 'SubscriptionsRefused', 'Subscriptions over a limit'),
    'tc_messages_in': ('Cisco XCP TC', 'TcMessagesIn', 'Messages to chat rooms'),
    'tc_messages_out': ('Cisco XCP TC', 'TcMessagesOut', 'Copies of messages that chat rooms sent to occupants'),
    'tls_failures': ('Cisco XCP Connection Manager', 'TlsFailures', 'TLS handshakes that failed'),
    'web_refused': (
        'Cisco XCP Web Connection Manager',
        'RequestsRefused',
        'HTTP requests refused: form, size or origin',
    ),
    'web_requests': ('Cisco XCP Web Connection Manager', 'Requests', 'Complete HTTP requests'),
    'websockets': ('Cisco XCP Web Connection Manager', 'WebSocketsOpened', 'WebSocket connections begun'),
}


class _Collector:
    """Reads a node's counters and gauges at the moment of the scrape."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """The metric families, in the order of their names."""
        node = self._node
        labels = ('node', 'object', 'counter')
        for name, (thing, counter, text) in OBJECTS.items():
            family = CounterMetricFamily(f'imp_{name}', f'{text}.', labels=labels)
            family.add_metric((node.name, thing, counter), getattr(node.counters, name))
            yield family
        sessions, users, _ = node.load()
        manager: Any = node.service(CONNECTION_MANAGER)
        gauges = (
            ('users_online', 'Cisco XCP Router', 'UsersOnline', 'Users with at least one session', users),
            ('client_sessions', 'Cisco XCP Router', 'ClientSessions', 'Bound sessions', sessions),
            (
                'client_connections',
                'Cisco XCP Connection Manager',
                'CurrentConnections',
                'Open connections, signed in or not',
                len(manager.connections) if manager is not None else 0,
            ),
            ('loop_lag_ms', 'Process', 'EventLoopLag', 'Longest wait of the event loop, milliseconds', node.lag_ms),
            (
                'configuration_generation',
                'Cisco Config Agent',
                'ConfigurationGeneration',
                'Configuration in force',
                node.config.generation,
            ),
            ('queued_writes', 'Cisco XCP Router', 'QueuedWrites', 'Writes that wait for the database', queues(node)[0]),
            *capacity.gauges(node),
            *_rooms(node),
        )
        for name, thing, counter, text, value in gauges:
            gauge = GaugeMetricFamily(f'imp_{name}', f'{text}.', labels=labels)
            gauge.add_metric((node.name, thing, counter), value)
            yield gauge
        yield from _links(node)
        services = GaugeMetricFamily('imp_service_running', '1 while the service runs.', labels=('node', 'service'))
        for slot in node.supervisor.slots.values():
            services.add_metric((node.name, slot.name), float(slot.key in node.running))
        yield services


def _rooms(node: Node) -> Iterator[tuple[str, str, str, str, int]]:
    """The chat rooms of the node."""
    manager: Any = node.service(TEXT_CONFERENCE_MANAGER)
    rooms, occupants = (len(manager.rooms.rooms), manager.rooms.occupants) if manager is not None else (0, 0)
    yield 'tc_total_rooms', 'Cisco XCP TC', 'TcTotalRooms', 'Chat rooms', rooms
    yield 'tc_adhoc_rooms', 'Cisco XCP TC', 'TcAdHocRooms', 'Chat rooms that end with their last occupant', rooms
    yield 'tc_occupants', 'Cisco XCP TC', 'TcOccupants', 'Occupants of chat rooms', occupants


def queues(node: Node) -> tuple[int, int]:
    """(writes that wait for the database, bytes that wait for other nodes)"""
    router: Any = node.service(XCP_ROUTER)
    if router is None:
        return 0, 0
    links = router.nodes.links.values() if router.nodes is not None else ()
    return router.writer.waiting, sum(link.size for link in links)


def _links(node: Node) -> Iterator[Metric]:
    """Links to the other nodes, by the name of the node there."""
    router: Any = node.service(XCP_ROUTER)
    nodes = router.nodes if router is not None else None
    if nodes is None:
        return
    labels = ('node', 'other')
    up = GaugeMetricFamily('imp_node_link_up', '1 while frames flow to the other node.', labels=labels)
    queued = GaugeMetricFamily('imp_node_link_queued_bytes', 'Bytes not acknowledged by the other node.', labels=labels)
    sent = CounterMetricFamily('imp_node_link_frames_sent', 'Frames queued for the other node.', labels=labels)
    got = CounterMetricFamily('imp_node_link_frames_received', 'Frames of the other node.', labels=labels)
    users = GaugeMetricFamily('imp_node_link_users', 'Users signed in at the other node.', labels=labels)
    names = {other.id: other.name for other in node.config.nodes}
    for link in nodes.links.values():
        name = names.get(link.other, str(link.other))
        up.add_metric((node.name, name), float(link.up))
        queued.add_metric((node.name, name), link.size)
        sent.add_metric((node.name, name), link.frames_out)
        got.add_metric((node.name, name), link.frames_in)
        users.add_metric((node.name, name), sum(1 for where in nodes.where.values() if where is link))
    yield from (up, queued, sent, got, users)


class MetricsEndpoint:
    """GET /metrics on 127.0.0.1; port 0 lets the system choose. Nothing else is served."""

    def __init__(self, node: Node, port: int) -> None:
        self._port = port
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(node))
        self._registry.register(ProcessCollector(registry=None))
        self._server: asyncio.Server | None = None
        self.url = ''

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._answer, '127.0.0.1', self._port, limit=8192)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f'http://127.0.0.1:{port}/metrics'

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                head = await reader.readuntil(b'\r\n\r\n')
                method, _, rest = head.partition(b' ')
                if method == b'GET' and rest.split(b' ', 1)[0].split(b'?')[0] == b'/metrics':
                    code, body = b'200 OK', generate_latest(self._registry)
                else:
                    code, body = b'404 Not Found', b'GET /metrics\n'
                writer.write(
                    b'HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b'
                    % (code, CONTENT_TYPE_LATEST.encode(), len(body), body)
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
