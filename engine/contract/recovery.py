"""High availability of a Presence Redundancy Group: states, reasons, what is allowed, and what to do (guide 2216-2307).

The texts are English templates with ``%(node1)s`` and ``%(node2)s``; the console shows them in the reader's language
(docs/decisions on messages). Nothing here knows a clock, a socket or the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from engine.contract.recovery_table import ROWS as ROWS
from engine.contract.recovery_table import Row as Row
from engine.contract.recovery_words import Reason as Reason
from engine.contract.recovery_words import State as State
from engine.contract.service_keys import AUTHENTICATION, FEDERATION_MANAGER, PRESENCE_ENGINE, SIP_PROXY, XCP_ROUTER

FAILOVER, FALLBACK, RECOVER = 'ha-failover', 'ha-fallback', 'ha-recover'
ORDERS = (FAILOVER, FALLBACK, RECOVER)
"""Verbs of ``service_command`` for Cisco Server Recovery Manager. Failover goes to the node that is relieved, Fallback
to the node that takes its users back, Recover to either node of the group."""

CRITICAL = (PRESENCE_ENGINE, SIP_PROXY, FEDERATION_MANAGER, XCP_ROUTER)
"""Services whose outage moves the users of a node, in the order they are stopped; only those activated on the node
count (spec 02, 3.2). The database counts, too."""
DATABASE = 'database'
"""Key of the database beside the services in ``node_recovery.critical``."""


def critical(activated: tuple[str, ...], authentication: bool) -> tuple[str, ...]:
    """The services watched on a node. ``activated``: keys of its feature services. ``authentication``: parameter
    Enable XCP Authentication Service Monitoring."""
    watched = (*CRITICAL[:-1], *((AUTHENTICATION,) if authentication else ()))
    return (*(key for key in watched if key in activated), XCP_ROUTER)


BACKUP = frozenset({State.RUNNING_IN_BACKUP_MODE, State.BACKUP_ACTIVATED})
"""The node serves the users of both nodes."""
TRANSITION = frozenset({
    State.INITIALIZING, State.TAKING_OVER, State.FAILING_OVER, State.FALLING_BACK, State.TAKING_BACK,
})  # fmt: skip
BLOCKS_ADDING_USERS = frozenset({
    State.FAILING_OVER, State.IDLE, State.FAILED_OVER, State.FAILED_OVER_CRITICAL, State.NOT_RESPONDING,
    State.FAILOVER_AFFECTED, State.FAILED,
})  # fmt: skip
"""While any node of the cluster is in one of these no user can be added or assigned (guide 2242)."""


def buttons(node1: State, node2: State) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The orders that may be given for each node in this pair of states (guide 2230)."""
    return _orders(node1, node2), _orders(node2, node1)


def _orders(own: State, peer: State) -> tuple[str, ...]:
    if own is State.NORMAL and peer is State.NORMAL:
        return (FAILOVER,)
    if own is State.IDLE and (peer in BACKUP or peer is State.NOT_RESPONDING):
        return (FALLBACK,)
    if own is State.FAILED_OVER and peer in BACKUP:
        return (FALLBACK,)
    if own is State.FAILED and peer in (State.FAILED, State.NOT_RESPONDING):
        return (RECOVER,)
    return ()


@dataclass(frozen=True, slots=True)
class Advice:
    """What the page says about a pair: ``row`` of the guide's table and whether node 1 of it is the second node."""

    row: Row
    exchanged: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """Templates: the cause, then each step of the recommended action."""
        return (self.row.cause, *self.row.steps)

    def values(self, first: str, second: str) -> dict[str, str]:
        """Names for the templates, of the nodes in the order the pair was given."""
        return {'node1': second, 'node2': first} if self.exchanged else {'node1': first, 'node2': second}


Side = tuple[State, Reason]


def advice(first: Side, second: Side) -> Advice:
    """The row for a pair, with nodes exchanged if need be; there is always one."""
    for row in ROWS:
        if row.matches(first, second):
            return Advice(row, exchanged=False)
        if row.matches(second, first):
            return Advice(row, exchanged=True)
    raise LookupError((first, second))


class Text(StrEnum):
    """Why an order is refused, and what the alarms say. Collected for translation with ``texts``."""

    HA_OFF = 'High availability is not enabled for the group of %(node)s.'
    NOT_NOW = '%(order)s is not possible now: %(node)s is %(state)s, %(peer)s is %(peer_state)s.'
    PEER_NOT_READY = '%(order)s is not possible now: %(peer)s cannot take the users, it lacks: %(services)s.'
    NOT_HEARD = '%(order)s is not possible now: nothing is heard of %(peer)s.'
    KEPT_STOPPED = 'kept stopped: %(node)s was failed over by an administrator. Use Fallback to start it.'
    SETTLED = '%(state)s: %(reason)s'
    NO_HA = 'high availability is not enabled'
    FAILOVER_STARTED = 'Group %(group)s: the users of %(node)s move to %(peer)s. Reason: %(reason)s.'
    FAILOVER_COMPLETED = 'Group %(group)s: %(peer)s serves the users of %(node)s. Reason: %(reason)s.'
    FALLBACK_STARTED = 'Group %(group)s: the users of %(node)s return from %(peer)s. Reason: %(reason)s.'
    FALLBACK_COMPLETED = 'Group %(group)s: the users of %(node)s are back.'
    FAILED = 'Group %(group)s runs in failed mode. Reason: %(reason)s. Use Recover on Presence Redundancy Groups.'
    PEER_DOWN = 'Group %(group)s: %(node)s hears nothing of %(peer)s.'
    CRITICAL_DOWN = 'Group %(group)s: critical services of %(node)s do not run: %(services)s.'


def texts() -> Iterator[str]:
    """Every English source string of this module."""
    for words in (State, Reason, Text):
        yield from (word.value for word in words)
    for row in ROWS:
        yield from (row.cause, *row.steps)
