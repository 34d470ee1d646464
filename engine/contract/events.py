"""Nudges between console and engine, over Redis pub/sub. Every one may be lost: the durable truth is in PostgreSQL.

The console publishes on ``EVENTS`` after commit; every engine node listens and also polls. Engines publish on
``LIVE`` what pages show as it happens; the console forwards it over WebSocket.
"""

from __future__ import annotations

import os

import msgspec

# Redis pub/sub ignores the database number: installations that share a server need names of their own.
PREFIX = os.environ.get('IMP_CHANNEL_PREFIX', 'imp')
EVENTS = f'{PREFIX}:events'
LIVE = f'{PREFIX}:live'


class ConfigChanged(msgspec.Struct, frozen=True, tag='config'):
    """A new configuration generation is stored."""

    generation: int


class UsersChanged(msgspec.Struct, frozen=True, tag='users'):
    """These end users were saved, moved, disabled or deleted: sessions must be checked against the table again."""

    ids: list[int]


class ContactListsChanged(msgspec.Struct, frozen=True, tag='contact_lists'):
    """Contact lists of these end users were written from outside the engine: read again, push what differs."""

    ids: list[int]


class PersonalItemsWritten(msgspec.Struct, frozen=True, tag='personal_items'):
    """Items of the node ``node`` of these end users' accounts were written from outside the engine."""

    ids: list[int]
    node: str


class CommandQueued(msgspec.Struct, frozen=True, tag='command'):
    """A row was added to ``service_command`` for this node."""

    node: str


SESSIONS_REPORT = 'sessions-report'
"""Verb of a row of ``service_command`` that asks a node for its part of the User Sessions Report; the id of the report
stands where other commands name a service."""


Event = ConfigChanged | UsersChanged | ContactListsChanged | PersonalItemsWritten | CommandQueued


class ServiceStateLive(msgspec.Struct, frozen=True, tag='service'):
    """A service changed state. ``since``: UNIX seconds."""

    node: str
    service: str
    state: str
    since: float
    detail: str = ''


class NodeLive(msgspec.Struct, frozen=True, tag='node'):
    """Heartbeat of a node with its session count."""

    node: str
    at: float
    sessions: int


class JobLive(msgspec.Struct, frozen=True, tag='job'):
    """Progress of a job."""

    job: int
    state: str
    done: int
    total: int


class NotificationsLive(msgspec.Struct, frozen=True, tag='notifications'):
    """Active Notifications may have changed: ask for them again."""


Live = ServiceStateLive | NodeLive | JobLive | NotificationsLive


def encode(message: Event | Live) -> bytes:
    """JSON of one message."""
    return msgspec.json.encode(message)


def decode_event(data: bytes) -> Event:
    """Read one message of ``EVENTS``."""
    event: Event = msgspec.json.decode(data, type=Event)
    return event
