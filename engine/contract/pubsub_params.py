"""Parameters of the Cisco XCP Router for publish-subscribe (XEP-0060, XEP-0163) and push notifications (XEP-0357)."""

from __future__ import annotations

from engine.contract.params import Param

PUBSUB_PARAMS = (
    Param(
        'pubsub_host',
        'pubsub',
        'Publish-subscribe host name',
        'The publish-subscribe service is at this name in the default domain.',
        restart=('xcp_router',),
        section='Publish-Subscribe',
        pattern=r'[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?',
    ),
    Param(
        'pubsub_users_create_nodes',
        True,
        'Users create nodes',
        'Users of this cluster may create nodes at the publish-subscribe service. Nodes of their own account are not '
        'affected.',
        section='Publish-Subscribe',
    ),
    Param(
        'pubsub_nodes_per_owner',
        200,
        'Maximum number of nodes per user',
        'Counted separately for the account of the user and for nodes made at the publish-subscribe service.',
        low=1,
        high=10000,
        section='Publish-Subscribe',
    ),
    Param(
        'pubsub_items_per_node',
        1000,
        'Maximum number of items per node',
        'The oldest items leave when there are more. A node can be configured to keep fewer.',
        low=1,
        high=100000,
        section='Publish-Subscribe',
    ),
    Param(
        'pubsub_payload_bytes',
        131072,
        'Maximum size of an item',
        'A larger item is refused.',
        low=1024,
        high=8388608,
        unit='bytes',
        section='Publish-Subscribe',
    ),
    Param(
        'pubsub_bytes_per_owner',
        10485760,
        'Maximum storage per user',
        'All items of the account together, and all items of the nodes made at the publish-subscribe service together.',
        low=65536,
        high=2147483647,
        unit='bytes',
        section='Publish-Subscribe',
    ),
    Param(
        'pubsub_subscriptions_per_node',
        1000,
        'Maximum number of subscriptions per node',
        'Each publication is sent to all of them. Contacts who get the events of an account do not count.',
        low=1,
        high=100000,
        section='Publish-Subscribe',
    ),
)
PUSH_PARAMS = (
    Param(
        'push_enabled',
        True,
        'Enable push notifications',
        'Clients may register a push service that is told when messages wait for them (XEP-0357).',
        restart=('xcp_router',),
        section='Push Notifications',
    ),
    Param(
        'push_registrations_per_user',
        10,
        'Maximum number of push registrations per user',
        'A further registration replaces the oldest one.',
        low=1,
        high=100,
        section='Push Notifications',
    ),
    Param(
        'push_sender',
        False,
        'Name the sender in push notifications',
        'The address of the last sender is sent to the push service, which may belong to somebody else.',
        section='Push Notifications',
    ),
    Param(
        'push_text',
        False,
        'Send the text in push notifications',
        'The text of the last message is sent to the push service, which may belong to somebody else.',
        section='Push Notifications',
    ),
    Param(
        'push_interval_s',
        3,
        'Shortest time between push notifications',
        'Messages that arrive for the same client within this time are told of together.',
        low=0,
        high=3600,
        unit='seconds',
        section='Push Notifications',
    ),
)
