"""The product's CLI commands about high availability and replication (guide 2002, 2045-2062, 2238)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from impadmin.console.cli import Failed, Session, phrase
from impadmin.serviceability.words import ordered
from impadmin.system import redundancy, replication
from impadmin.system.models import Node, RedundancyGroup

PAGE = 'presence-redundancy-groups'


def _group_of(node: str) -> RedundancyGroup:
    found = Node.objects.filter(name=node).first()
    group = RedundancyGroup.of(found) if found is not None else None
    if group is None:
        raise Failed(4, f'There is no node {node}.')
    return group


def _named(name: str) -> RedundancyGroup:
    found = RedundancyGroup.objects.filter(name__iexact=name).select_related('server1', 'server2').first()
    if found is None:
        raise Failed(4, f'There is no Presence Redundancy Group {name}.')
    return found


def _order(verb: str, group_of: Callable[[str], RedundancyGroup]) -> Callable[[Session, Sequence[str]], None]:
    def run(session: Session, words: Sequence[str]) -> None:
        if len(words) != 1:
            raise Failed(2, 'Give one name.')
        group = group_of(words[0])
        body = {} if verb == 'recover' else {'node': words[0]}
        ordered(session, session.call('POST', f'{PAGE}/{group.pk}/{verb}/', body))

    return run


phrase('utils ha failover', 'NODE', 'Move the users of a node to the other node of its group')(
    _order('failover', _group_of)
)
phrase('utils ha fallback', 'NODE', 'Move the users of a node back to it')(_order('fallback', _group_of))
phrase('utils ha recover', 'GROUP', 'Start again after both nodes of a group failed')(_order('recover', _named))


@phrase('utils ha status', '[GROUP]', 'State of every node of every Presence Redundancy Group, or of one')
def ha_status(session: Session, words: Sequence[str]) -> None:
    """Group, node, state, reason, users, sessions."""
    found = redundancy.standings([_named(' '.join(words))] if words else None)
    session.show(
        [
            {
                'group': one.group.name,
                'high_availability': one.group.ha_enabled,
                'server': member.node.name,
                'state': member.state.value if member.state is not None else '',
                'reason': member.reason.value,
                'assigned_users': member.assigned,
                'active_sessions': member.sessions,
                'users_served_by': member.owner.name,
            }
            for one in found
            for member in one.members
        ]
    )
    if words and session.form == 'table':
        session.out.writelines(f'{line}\n' for line in found[0].advice)


@phrase('utils dbreplication status', '', 'Check the tables of the configuration for errors and mismatches')
def replication_status(session: Session, words: Sequence[str]) -> None:
    """Parts of the configuration that differ from their tables; copies that PostgreSQL keeps."""
    if differing := replication.mismatches():
        raise Failed(3, f'Mismatch between the tables and the newest configuration: {", ".join(differing)}.')
    session.out.write('No errors or mismatches found: the newest configuration is what the tables say.\n')
    if copies := replication.copies():
        session.show([{'copy': name, 'state': state, 'bytes_behind': behind} for name, state, behind in copies])


@phrase('utils dbreplication runtimestate', '', 'Replication setup value of every node: 2 is good')
def replication_runtimestate(session: Session, words: Sequence[str]) -> None:
    """Server, address, replication setup."""
    session.show(
        [
            {'server': one.node.name, 'address': one.node.address, 'replication_setup': one.setup, 'details': one.text}
            for one in replication.replicas()
        ]
    )
