"""Parameters of Cisco XCP Router for the links between the nodes of a cluster."""

from __future__ import annotations

from engine.contract.params import Param

_ROUTER = 'xcp_router'

NODE_PARAMS = (
    Param(
        'node_link_port',
        7401,
        'Router-to-router port',
        'The other nodes of the cluster connect here. Open it between the nodes only.',
        low=1,
        high=65535,
        scope='node',
        restart=(_ROUTER,),
        section='Links Between Nodes',
    ),
    Param(
        'node_link_address',
        '127.0.0.1',
        'Listen address for other nodes',
        'IP address the router-to-router port listens on. 0.0.0.0 means every IPv4 address of the node, :: every '
        'address. With one node nothing listens.',
        scope='node',
        restart=(_ROUTER,),
        section='Links Between Nodes',
        pattern=r'[0-9A-Fa-f.:]{2,45}',
    ),
    Param(
        'node_link_timeout_s',
        10,
        'Node time-out',
        'After this time without a connection a node counts as gone: messages for its users are stored, its users are '
        'shown as not signed in, and an alarm is raised.',
        low=2,
        high=600,
        unit='seconds',
        section='Links Between Nodes',
    ),
    Param(
        'node_link_queue_kb',
        16384,
        'Maximum queue to another node',
        'When more waits for another node, clients that send to its users are read from no further until it has '
        'taken half of it.',
        low=256,
        high=1048576,
        unit='KiB',
        section='Links Between Nodes',
    ),
    Param(
        'peer_link_port',
        7402,
        'Port for peer clusters',
        'The nodes of peer clusters connect here (Presence > Inter-Clustering). Open it between the clusters only.',
        low=1,
        high=65535,
        scope='node',
        restart=(_ROUTER,),
        section='Links Between Clusters',
    ),
    Param(
        'peer_link_address',
        '127.0.0.1',
        'Listen address for peer clusters',
        'IP address the port for peer clusters listens on. 0.0.0.0 means every IPv4 address of the node, :: every '
        'address. Without a peer cluster nothing listens.',
        scope='node',
        restart=(_ROUTER,),
        section='Links Between Clusters',
        pattern=r'[0-9A-Fa-f.:]{2,45}',
    ),
    Param(
        'peer_link_timeout_s',
        30,
        'Peer time-out',
        'After this time without a connection a node of a peer cluster counts as gone: an alarm is raised, its users '
        'are shown as not signed in, and when no other node of the cluster is there, senders get an error.',
        low=2,
        high=600,
        unit='seconds',
        section='Links Between Clusters',
    ),
)
