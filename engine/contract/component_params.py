"""Parameters of Cisco XCP Router for external components (XEP-0114)."""

from __future__ import annotations

from engine.contract.params import Param, connection_limit, listen_address, listen_port, size_limit, time_limit
from engine.contract.service_keys import XCP_ROUTER

COMPONENT_PARAMS: tuple[Param, ...] = (
    listen_port(
        'component_port',
        7400,
        'External component port',
        'External components (XEP-0114) connect here. Nothing listens while none is configured.',
        XCP_ROUTER,
        section='External components',
    ),
    listen_address(
        'IP address of the node. The protocol has no encryption: use an address that only the components can reach.',
        XCP_ROUTER,
        'component_bind_address',
        label='Listen address for external components',
        section='External components',
    ),
    time_limit(
        'component_timeout_s',
        30,
        'Handshake time-out of components',
        'A connection that has not shown the secret of a component after this time is closed.',
        section='External components',
    ),
    connection_limit(
        'component_connections_per_ip',
        100,
        label='Maximum component connections per IP address',
        high=10000,
        section='External components',
    ),
    size_limit(
        'component_max_stanza_bytes',
        1048576,
        'Maximum stanza size of components',
        'A component that sends a larger stanza is disconnected with a policy violation.',
        10000,
        16777216,
        'External components',
    ),
    size_limit(
        'component_queue_bytes',
        16777216,
        'Maximum bytes waiting for a component',
        'When a component does not take what is sent to it, further stanzas are answered with an error.',
        65536,
        1073741824,
        'External components',
    ),
)
