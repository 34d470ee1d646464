"""Forms for the configuration of a node (engine/contract/pubsub_nodes.py): XEP-0060 8.2, 8.3 and publish-options."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from engine.contract.pubsub_nodes import (
    CHOICES,
    GROUPS,
    NODE_CONFIG,
    PREFIX,
    TEXT,
    NodeConfig,
    defaults,
    dump,
    load,
    values,
)
from engine.xmpp.forms import MULTI, Field, Form, FormError, FormKind, hidden

__all__ = ['NODE_CONFIG', 'PREFIX', 'NodeConfig', 'changed', 'defaults', 'dump', 'form', 'load', 'unmet']

PUBLISH_OPTIONS: Final = 'http://jabber.org/protocol/pubsub#publish-options'
META_DATA: Final = 'http://jabber.org/protocol/pubsub#meta-data'


def _choice(name: str, label: str) -> Field:
    return Field(PREFIX + name, 'list-single', label=label, options=tuple((value, '') for value in CHOICES[name]))


FIELDS: Final[dict[str, Field]] = {
    field.var: field
    for field in (
        Field(f'{PREFIX}title', 'text-single', label='A short name of the node'),
        Field(f'{PREFIX}description', 'text-single', label='A description of the node'),
        Field(f'{PREFIX}type', 'text-single', label='The type of the data: usually the namespace of the payload'),
        Field(f'{PREFIX}language', 'text-single', label='The default language of the node'),
        _choice('access_model', 'Who may subscribe and retrieve items'),
        Field(f'{PREFIX}roster_groups_allowed', 'text-multi', label='Contact list groups that may subscribe'),
        _choice('publish_model', 'Who may publish'),
        Field(f'{PREFIX}persist_items', 'boolean', label='Keep the items in storage'),
        Field(f'{PREFIX}max_items', 'text-single', label="How many items are kept, or 'max'"),
        Field(f'{PREFIX}deliver_notifications', 'boolean', label='Send notifications'),
        Field(f'{PREFIX}deliver_payloads', 'boolean', label='Send payloads with notifications'),
        Field(f'{PREFIX}notify_config', 'boolean', label='Notify subscribers when the configuration changes'),
        Field(f'{PREFIX}notify_delete', 'boolean', label='Notify subscribers when the node is deleted'),
        Field(f'{PREFIX}notify_retract', 'boolean', label='Notify subscribers when items are removed'),
        _choice('notification_type', 'Type of the notification messages'),
        _choice('send_last_published_item', 'When to send the last published item'),
        _choice('itemreply', 'Whom replies to items are for'),
    )
}
OPTIONS: Final = {**FIELDS, f'{PREFIX}multi_items': Field(f'{PREFIX}multi_items', 'boolean')}


def form(config: NodeConfig, kind: FormKind = 'form', most: int | None = None) -> Form:
    """The configuration as a form to fill in or a result. ``most``: what 'max' items means is shown as 'max'."""
    fields = tuple(
        Field(field.var, field.type, values(config, name), field.label, field.options if kind == 'form' else ())
        for name, field in ((field.var.removeprefix(PREFIX), field) for field in FIELDS.values())
    )
    return Form(kind, (hidden(NODE_CONFIG), *fields))


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
