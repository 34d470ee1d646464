"""Presence redundancy groups as they are now: nodes, the users they serve, recovery states (guide 2244-2307)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from engine.contract.recovery import BACKUP, BLOCKS_ADDING_USERS, CRITICAL, TRANSITION, Reason, State, advice, buttons
from impadmin.console import together
from impadmin.console.actions import Refused
from impadmin.system import assigned
from impadmin.system.models import Node, NodeRecovery, RedundancyGroup
from impadmin.system.state import in_contact

_STATES = {state.value: state for state in State}
_REASONS = {reason.value: reason for reason in Reason}
_RANK = {'bad': 0, 'unk': 1, 'warn': 2, 'busy': 3, 'ok': 4, 'off': 5}


@dataclass(frozen=True, slots=True)
class Member:
    """One node of a group.

    assigned  users homed on it who can sign in; sessions: active JSM sessions it has
    state     None while High Availability is off; recovery: what the node wrote of itself, or None
    owner     the node that serves the users homed here
    """

    node: Node
    assigned: int
    sessions: int
    state: State | None
    reason: Reason
    owner: Node
    recovery: NodeRecovery | None

    @property
    def mark(self) -> str:
        """Mark of the state."""
        if self.state is None:
            return 'off'
        if self.state is State.NORMAL:
            return 'ok'
        if self.state in TRANSITION:
            return 'busy'
        if self.state is State.UNKNOWN:
            return 'unk'
        return 'warn' if self.state in (*BACKUP, State.IDLE, State.FAILED_OVER) else 'bad'

    @property
    def word(self) -> str:
        """The state in the reader's language."""
        return _('High Availability is off') if self.state is None else _(self.state.value)

    @property
    def since(self) -> datetime | None:
        """Since when it is in this state."""
        return self.recovery.since if self.state is not None and self.recovery is not None else None


@dataclass(frozen=True, slots=True)
class Standing:
    """A group with its nodes, Presence Server (1) first."""

    group: RedundancyGroup
    members: tuple[Member, ...]

    @property
    def state(self) -> tuple[str, str]:
        """(mark, word) of the node that is worst off."""
        if not self.group.ha_enabled:
            return 'off', _('Off')
        worst = min(self.members, key=lambda member: _RANK[member.mark])
        return worst.mark, worst.word

    @property
    def orders(self) -> tuple[tuple[str, ...], ...]:
        """The orders that may be given for each node now (guide 2230)."""
        states = [member.state for member in self.members]
        if len(states) != 2 or states[0] is None or states[1] is None:
            return ((),) * len(states)
        return buttons(states[0], states[1])

    @property
    def advice(self) -> list[str]:
        """The cause of the present pair of states, then each step of the recommended action; [] while HA is off."""
        sides = [(member.state, member.reason) for member in self.members if member.state is not None]
        if len(sides) != 2:
            return []
        found = advice(sides[0], sides[1])
        names = found.values(*(member.node.name for member in self.members))
        return [_(text) % names for text in found.texts]


def groups() -> list[RedundancyGroup]:
    """Every group with its nodes, by name."""
    return list(RedundancyGroup.objects.select_related('server1', 'server2').order_by('name'))


def standing(group: RedundancyGroup) -> Standing:
    """One group as it is now."""
    return standings([group])[0]


def standings(found: Iterable[RedundancyGroup] | None = None) -> list[Standing]:
    """Groups as they are now, by default all: three queries."""
    chosen = groups() if found is None else list(found)
    nodes = {node.pk: node for group in chosen for node in group.nodes}
    users = assigned.by_node(nodes)
    recovery = {row.node_id: row for row in NodeRecovery.objects.filter(node__in=nodes)}

    def member(group: RedundancyGroup, node: Node) -> Member:
        row = recovery.get(node.pk)
        state, reason = _state(group, node, row)
        return Member(
            node,
            users.get(node.pk, assigned.NOBODY).live,
            node.active_jsm_sessions if in_contact(node) else 0,
            state,
            reason,
            nodes.get(row.owner_id, node) if row is not None else node,
            row,
        )

    return [Standing(group, tuple(member(group, node) for node in group.nodes)) for group in chosen]


def _state(group: RedundancyGroup, node: Node, row: NodeRecovery | None) -> tuple[State | None, Reason]:
    if not group.ha_enabled:
        return None, Reason.NONE
    if not in_contact(node):
        return State.NOT_RESPONDING, Reason.NONE
    if row is None:
        return State.UNKNOWN, Reason.UNKNOWN
    return _STATES.get(row.state, State.UNKNOWN), _REASONS.get(row.reason, Reason.UNKNOWN)


def blocking() -> str:
    """Why no user can be added or assigned to a node now, or '' (guide 2242, 2369). Costs one query without HA."""
    for one in standings(RedundancyGroup.objects.filter(ha_enabled=True).select_related('server1', 'server2')):
        for member in one.members:
            if member.state in BLOCKS_ADDING_USERS:
                return _(
                    'While %(node)s is %(state)s no user can be added or assigned to a node. See Presence Redundancy '
                    'Groups.'
                ) % {'node': member.node.name, 'state': member.word}
    return ''


def failover_follows(node: Node, service: str) -> str:
    """What happens when ``service`` stays down on ``node``, or '' (guide 1203, 1215)."""
    group = RedundancyGroup.of(node)
    if group is None or not group.ha_enabled or service not in CRITICAL:
        return ''
    return _(
        'High Availability is enabled: users of %(node)s fail over if it stays down longer than Critical Service '
        'Delay. Disable it first, or use Restart services of the group %(group)s.'
    ) % {'node': node.name, 'group': group.name}


def guard() -> None:
    """Raise Refused while users can neither be added nor assigned; among several rows it is looked at once."""
    if reason := together.once('redundancy_guard', blocking):
        raise Refused(reason)


def short_of_sessions(found: Iterable[Standing]) -> list[tuple[Node, int, int]]:
    """(node, active JSM sessions, users it must have them for) where some are missing still (guide 1443-1457)."""
    short = []
    for one in found:
        for member in one.members:
            wanted = sum(other.assigned for other in one.members if other.owner.pk == member.node.pk)
            if member.sessions < wanted:
                short.append((member.node, member.sessions, wanted))
    return short
