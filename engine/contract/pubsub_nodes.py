"""Configuration of a publish-subscribe node as plain data: the fields of XEP-0060 16.4.4 this service has.

Stored is only what differs from the defaults, so a default can change. Accounts (XEP-0163) and the service
(XEP-0060) differ in some defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

PREFIX: Final = 'pubsub#'
NODE_CONFIG: Final = 'http://jabber.org/protocol/pubsub#node_config'
ACCESS: Final = ('open', 'presence', 'roster', 'authorize', 'whitelist')
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    'access_model': ACCESS,
    'publish_model': ('publishers', 'subscribers', 'open'),
    'notification_type': ('normal', 'headline'),
    'send_last_published_item': ('never', 'on_sub', 'on_sub_and_presence'),
    'itemreply': ('owner', 'publisher'),
}
"""What the fields with a choice can be."""
AFFILIATIONS: Final = ('owner', 'publisher', 'publish-only', 'member', 'none', 'outcast')
TEXT: Final = 1024
"""Characters of a title, description, type, language or contact list group."""
GROUPS: Final = 100
NAME_BYTES: Final = 1023
"""Longest name of a node and longest item id, in bytes: what the database can index."""
JID_BYTES: Final = 2000


class Limits(msgspec.Struct, frozen=True):
    """Parameters of Cisco XCP Router for nodes (pubsub_params.py), in force."""

    nodes: int
    items: int
    payload: int
    storage: int
    subscriptions: int
    creators: bool


def limits(value: Callable[[str], Any]) -> Limits:
    """What is allowed; ``value`` gives that of a parameter."""
    return Limits(
        nodes=int(value('pubsub_nodes_per_owner')),
        items=int(value('pubsub_items_per_node')),
        payload=int(value('pubsub_payload_bytes')),
        storage=int(value('pubsub_bytes_per_owner')),
        subscriptions=int(value('pubsub_subscriptions_per_node')),
        creators=bool(value('pubsub_users_create_nodes')),
    )


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an owner can set. The names are those of the fields without ``pubsub#``. ``max_items`` None: as many as the
    system allows ('max')."""

    title: str = ''
    description: str = ''
    type: str = ''
    language: str = ''
    access_model: str = 'presence'
    roster_groups_allowed: tuple[str, ...] = ()
    publish_model: str = 'publishers'
    persist_items: bool = True
    max_items: int | None = 1
    deliver_notifications: bool = True
    deliver_payloads: bool = True
    notify_config: bool = False
    notify_delete: bool = True
    notify_retract: bool = True
    notification_type: str = 'headline'
    send_last_published_item: str = 'on_sub_and_presence'
    itemreply: str = 'owner'


ACCOUNT: Final = NodeConfig()
"""Defaults of a node of an account (XEP-0163)."""
SERVICE: Final = NodeConfig(access_model='open', max_items=20, send_last_published_item='on_sub')
"""Defaults of a node of the service."""


def defaults(personal: bool) -> NodeConfig:
    """The defaults of a new node."""
    return ACCOUNT if personal else SERVICE


def load(stored: Any, personal: bool) -> NodeConfig:
    """A configuration as it was stored."""
    return (
        msgspec.structs.replace(defaults(personal), **msgspec.convert(stored, type=dict[str, Any]))
        if stored
        else (defaults(personal))
    )


def dump(config: NodeConfig, personal: bool) -> dict[str, Any]:
    """What differs from the defaults, for storing."""
    base = defaults(personal)
    return {
        name: getattr(config, name)
        for name in NodeConfig.__struct_fields__
        if getattr(config, name) != getattr(base, name)
    }


def values(config: NodeConfig, name: str) -> tuple[str, ...]:
    """The values of a field in a form."""
    value = getattr(config, name)
    if name == 'max_items' and value is None:
        return ('max',)
    if isinstance(value, bool):
        return ('1' if value else '0',)
    if isinstance(value, tuple):
        return value
    return (str(value),) if value != '' else ()
