"""Configuration of a node: the fields of XEP-0060 16.4.4 this service has, their defaults, and its forms.

Stored is only what differs from the defaults, so a default can change. Accounts (XEP-0163) and the service
(XEP-0060) differ in some defaults.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from engine.xmpp.forms import MULTI, Field, Form, FormError, FormKind, hidden

PREFIX: Final = 'pubsub#'
NODE_CONFIG: Final = 'http://jabber.org/protocol/pubsub#node_config'
PUBLISH_OPTIONS: Final = 'http://jabber.org/protocol/pubsub#publish-options'
META_DATA: Final = 'http://jabber.org/protocol/pubsub#meta-data'
ACCESS: Final = ('open', 'presence', 'roster', 'authorize', 'whitelist')
PUBLISH: Final = ('publishers', 'subscribers', 'open')
SEND_LAST: Final = ('never', 'on_sub', 'on_sub_and_presence')
TEXT: Final = 1024
"""Characters of a title, description, type or language."""
GROUPS: Final = 100


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


def _choice(name: str, label: str, *values: str) -> Field:
    return Field(PREFIX + name, 'list-single', label=label, options=tuple((value, '') for value in values))


FIELDS: Final[dict[str, Field]] = {
    field.var: field
    for field in (
        Field(f'{PREFIX}title', 'text-single', label='A short name of the node'),
        Field(f'{PREFIX}description', 'text-single', label='A description of the node'),
        Field(f'{PREFIX}type', 'text-single', label='The type of the data: usually the namespace of the payload'),
        Field(f'{PREFIX}language', 'text-single', label='The default language of the node'),
        _choice('access_model', 'Who may subscribe and retrieve items', *ACCESS),
        Field(f'{PREFIX}roster_groups_allowed', 'text-multi', label='Contact list groups that may subscribe'),
        _choice('publish_model', 'Who may publish', *PUBLISH),
        Field(f'{PREFIX}persist_items', 'boolean', label='Keep the items in storage'),
        Field(f'{PREFIX}max_items', 'text-single', label="How many items are kept, or 'max'"),
        Field(f'{PREFIX}deliver_notifications', 'boolean', label='Send notifications'),
        Field(f'{PREFIX}deliver_payloads', 'boolean', label='Send payloads with notifications'),
        Field(f'{PREFIX}notify_config', 'boolean', label='Notify subscribers when the configuration changes'),
        Field(f'{PREFIX}notify_delete', 'boolean', label='Notify subscribers when the node is deleted'),
        Field(f'{PREFIX}notify_retract', 'boolean', label='Notify subscribers when items are removed'),
        _choice('notification_type', 'Type of the notification messages', 'normal', 'headline'),
        _choice('send_last_published_item', 'When to send the last published item', *SEND_LAST),
        _choice('itemreply', 'Whom replies to items are for', 'owner', 'publisher'),
    )
}
OPTIONS: Final = {**FIELDS, f'{PREFIX}multi_items': Field(f'{PREFIX}multi_items', 'boolean')}


def form(config: NodeConfig, kind: FormKind = 'form', most: int | None = None) -> Form:
    """The configuration as a form to fill in or a result. ``most``: what 'max' items means is shown as 'max'."""
    fields = tuple(
        Field(field.var, field.type, _values(config, name), field.label, field.options if kind == 'form' else ())
        for name, field in ((field.var.removeprefix(PREFIX), field) for field in FIELDS.values())
    )
    return Form(kind, (hidden(NODE_CONFIG), *fields))


def _values(config: NodeConfig, name: str) -> tuple[str, ...]:
    value = getattr(config, name)
    if name == 'max_items' and value is None:
        return ('max',)
    if isinstance(value, bool):
        return ('1' if value else '0',)
    if isinstance(value, tuple):
        return value
    return (str(value),) if value != '' else ()


def changed(config: NodeConfig, submission: Form, most_items: int) -> NodeConfig:
    """``config`` with what a checked submission says. Raises FormError."""
    changes: dict[str, Any] = {}
    for field in submission.fields:
        name = field.var.removeprefix(PREFIX)
        if field.var not in FIELDS or name not in NodeConfig.__struct_fields__:
            continue
        kind = FIELDS[field.var].type
        if kind == 'boolean':
            changes[name] = submission.flag(field.var, getattr(config, name))
        elif name == 'max_items':
            changes[name] = _max_items(submission, most_items, config.max_items)
        elif kind in MULTI:
            if len(field.values) > GROUPS or any(len(value) > TEXT for value in field.values):
                raise FormError(f'At most {GROUPS} groups can be allowed, each of at most {TEXT} characters.')
            changes[name] = tuple(dict.fromkeys(field.values))
        elif kind == 'list-single':
            changes[name] = field.values[0] if field.values else getattr(config, name)
        else:
            text = field.values[0] if field.values else ''
            if len(text) > TEXT:
                raise FormError(f'The field {name!r} has at most {TEXT} characters.')
            changes[name] = text
    return msgspec.structs.replace(config, **changes)


def _max_items(submission: Form, most: int, before: int | None) -> int | None:
    var = f'{PREFIX}max_items'
    text = submission.text(var).strip()
    if text == 'max':
        return None
    if not text:
        return before
    value = submission.number(var, low=0, high=2**31 - 1)
    assert value is not None
    if value > most:
        raise FormError(f"A node keeps at most {most} items. Ask for 'max' or a number up to {most}.")
    return value


def unmet(config: NodeConfig, submission: Form, most_items: int) -> bool:
    """Whether a node does not have what publish-options demand (XEP-0060 7.1.5)."""
    return changed(config, submission, most_items) != config
