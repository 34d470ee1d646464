"""Sentences programs store for people: kept as English template and values, shown in the reader's language.

``message()`` gives a str that reads as plain English wherever it goes (log, metrics, comparisons) and remembers its
template and values; ``encode`` writes them into a text column, ``decode`` renders a column in a language. Text without
a template (an exception message of the operating system) is stored and shown as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from engine.contract.recovery_words import Reason, State
from engine.contract.services import SERVICES

SERVICE_NAMES = frozenset(service.name for service in SERVICES)
NAMED = SERVICE_NAMES | frozenset((*State, *Reason))
"""Values that have a name in every language: services, states and reasons of high availability."""
LONGEST = 400
"""Most characters of service_status.detail and service_command.error."""
Translate = Callable[[str], str]


class Text(StrEnum):
    """Everything the engine stores for people. imp_messages collects it for translation."""

    # why a service cannot be started, and what it waits for
    PUBLISHER_ONLY = '%(service)s runs on the publisher node only.'
    ON_PUBLISHER = 'runs on the publisher node'
    NOT_ACTIVATED = '%(service)s is not activated on %(node)s. Activate it under Tools > Service Activation.'
    NEEDS = '%(service)s cannot start because %(needed)s is not running. Start %(needed)s first.'
    NOT_RELEASED = '%(service)s waits until %(monitor)s finds the database ready.'
    NO_SUCH_SERVICE = 'There is no service %(service)s on %(node)s.'
    WAITING = 'waiting for %(service)s'
    WAITS = 'waits for %(service)s'
    NOT_STARTED = '%(service)s could not start: %(reason)s'
    FAILED = '%(service)s failed: %(reason)s'
    NO_ANSWER = 'It did not answer in time.'
    NO_SUCH_COMMAND = 'There is no command %(verb)s; use start, stop or restart.'
    NOT_RUNNING = '%(service)s does not run on %(node)s. Start it first.'
    NO_SERVICE = 'There is no service %(service)s.'
    INTERRUPTED = 'The node stopped while it executed this command.'
    # listening
    LISTENING = 'listening on %(first)s (STARTTLS), %(second)s (TLS)'
    LISTENING_WEB = 'listening on %(address)s'
    LISTENING_SIP = 'listening on %(address)s (UDP, TCP), :%(tls)s (TLS)'
    LISTENING_SIP_MUTUAL = '%(listening)s, :%(mutual)s (mutual TLS)'
    LISTENING_NODES = 'listening for other nodes on %(address)s'
    LISTENING_PEERS = 'listening for peer clusters on %(address)s'
    LISTENING_SERVERS = 'listening for servers on %(address)s'
    FEDERATION_OFF = 'XMPP federation is switched off'
    HOSTING_ROOMS = 'chat rooms of %(aliases)s'
    NO_ALIAS = 'no group chat server alias is assigned to this node'
    CHAT_ALIAS_TAKEN = 'There are no chat rooms of %(aliases)s: a domain or a component of this server has that name.'
    PORT_IN_USE = 'port %(port)s is in use'
    NO_SUCH_ADDRESS = '%(address)s is not an address of this machine (parameter Listen address)'
    PORT_OF_ROOT = 'port %(port)s may be opened by root only'
    CANNOT_LISTEN = 'cannot listen on %(address)s port %(port)s: %(reason)s'
    # nodes
    UNKNOWN_HOSTS = 'These addresses of nodes cannot be resolved: %(names)s. Correct DNS or System > Cluster Topology.'
    NODE_LINK_DOWN = '%(node)s cannot reach these nodes: %(others)s. Their users get messages when they sign in again.'
    PEER_LINK_DOWN = (
        '%(node)s cannot reach these nodes of peer clusters: %(others)s. Check Presence > Inter-Clustering.'
    )
    NO_PEERS = 'There is no peer cluster.'
    PEERS = 'Peer clusters: %(count)s, with %(users)s users.'
    # database
    DATABASE_CHECK = 'checking the database'
    DATABASE_READY = 'The database is ready.'
    DATABASE_OF_NODE_READY = 'The database of %(node)s is ready.'
    DATABASE_AWAY = 'The database cannot be reached.'
    DATABASE_AWAY_WHY = 'The database cannot be reached (%(reason)s).'
    MIGRATIONS_MISSING = 'The database lacks migrations of this release: %(count)s, first %(name)s.'
    DATABASE_PROBLEM = '%(node)s: %(problem)s'
    DATABASE_PROBLEM_OVER = '%(node)s: %(problem)s The time-out is over, the services start all the same.'
    DATABASE_PROBLEM_HELD = '%(node)s: %(problem)s Held back: %(services)s.'
    # configuration
    NOT_APPLIED = '%(service)s could not take configuration %(number)s: %(reason)s'
    WRONG_CONFIGURATION = 'Configuration %(number)s is not valid: %(reason)s'
    WITHOUT_NODE = 'Configuration %(number)s does not contain the node %(node)s.'
    OLDER_USED = '%(problem)s Configuration %(number)s is used instead.'
    OLD_STAYS = '%(problem)s The node goes on with configuration %(number)s.'
    # certificates
    CERTIFICATE_EXPIRES = 'The certificate %(name)s (%(owner)s) expires on %(date)s.'
    CERTIFICATE_EXPIRED = 'The certificate %(name)s (%(owner)s) expired on %(date)s.'
    CERTIFICATE_KEY_MISSING = (
        '%(node)s cannot read the key of the certificate %(name)s, which was made before the node was installed anew. '
        'It shows one of its own. Generate or upload a new one.'
    )
    # messages and sessions
    ARCHIVE_INCOMPLETE = '%(node)s: Messages were delivered but could not be written to the message archive.'
    TOO_MANY_SESSIONS = (
        '%(node)s: %(sessions)s JSM sessions are %(percent)s percent of the %(rated)s the node is rated for, more than '
        '%(threshold)s percent. Check its memory and processor; move users to other nodes if they are short.'
    )
    # work in progress
    ALL_ASSIGNED = 'Every enabled user is assigned to a node.'
    UNASSIGNED = 'Enabled users without a node: %(count)s. The assignment mode is None.'
    TO_ASSIGN = 'Enabled users waiting to be assigned to a node: %(count)s.'
    BULK_JOBS = 'Jobs: %(processing)s processing, %(pending)s pending, %(held)s on hold.'
    LDAP_DIRECTORIES = 'LDAP directories: %(count)s.'


class Message(str):
    """An English sentence that knows its template and values."""

    __slots__ = ('template', 'values')
    template: str
    values: dict[str, Any]


def message(template: StrEnum, **values: Any) -> Message:
    """``template`` with its values: texts, numbers, other messages, or a list of texts."""
    return _message(template.value, values)


def of(error: BaseException) -> Message | None:
    """The message an exception was raised with, if it was one."""
    candidates = (getattr(error, 'strerror', None), *error.args)
    return next((one for one in candidates if isinstance(one, Message)), None)


def encode(text: str, most: int | None = None) -> str:
    """``text`` as it is stored, at most ``most`` characters: what does not fit is stored as cut plain English."""
    stored = pack(text.template, text.values) if isinstance(text, Message) else str(text)
    return stored if most is None or len(stored) <= most else str(text)[:most]


def pack(template: str, values: Mapping[str, Any]) -> str:
    """JSON ``[template, values]``; a value that is a message is packed the same way inside."""
    return json.dumps([template, _plain(values)], default=str, ensure_ascii=False, separators=(',', ':'))


def load(stored: str) -> str:
    """A stored text as it was given to ``encode``: a Message, or the plain text."""
    if stored.startswith('["'):
        try:
            found = json.loads(stored)
            if _is_packed(found):
                return _message(found[0], found[1])
        except (ValueError, TypeError, KeyError):
            pass  # plain text that happens to look like it
    return stored


def decode(stored: str, translate: Translate) -> str:
    """A stored text in the language of ``translate``."""
    found = load(stored)
    if isinstance(found, Message):
        return render(found.template, found.values, translate)
    return translate(found) if found else ''


def render(template: str, values: Mapping[str, Any], translate: Translate) -> str:
    """A template filled in: messages and service names among the values are translated, other values stay."""
    text = translate(str(template))
    return text % {name: _shown(value, translate) for name, value in values.items()} if values else text


def _message(template: str, values: dict[str, Any]) -> Message:
    found = Message(render(template, values, str))
    found.template, found.values = template, values
    return found


def _shown(value: Any, translate: Translate) -> Any:
    if isinstance(value, Message):
        return render(value.template, value.values, translate)
    if isinstance(value, list):
        if _is_packed(value):
            return render(value[0], value[1], translate)
        return translate(', ').join(str(_shown(one, translate)) for one in value)
    return translate(value) if isinstance(value, str) and value in NAMED else value


def _is_packed(value: Any) -> bool:
    match value:
        case [str(), dict()]:
            return True
        case _:
            return False


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return [value.template, _plain(value.values)]
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
