"""Rules, writers and commands of Presence Redundancy Groups (guide 1997-2031, 2100-2198, 2216-2242, 9850-9869)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from engine.contract.recovery import FAILOVER, FALLBACK, RECOVER
from engine.contract.service_keys import SERVER_RECOVERY_MANAGER
from engine.contract.services import (
    BY_KEY,
    CLIENT_PROFILE_AGENT,
    PRESENCE_ENGINE,
    SIP_PROXY,
    SYNC_AGENT,
    XCP_ROUTER,
    State,
)
from impadmin.console.actions import Actor, Refused
from impadmin.console.page import Result
from impadmin.serviceability import commands
from impadmin.system import redundancy, replication
from impadmin.system.models import Node, NodeRecovery, RedundancyGroup
from impadmin.system.state import in_contact, states

MOST_USERS = 25_000
"""Users of a group with High Availability (guide 2023)."""
SETTLE = timedelta(minutes=2)
"""What a change of High Availability takes to reach every node at most (guide 1235-1246)."""
CHECKED = (CLIENT_PROFILE_AGENT, SYNC_AGENT, XCP_ROUTER, SIP_PROXY, PRESENCE_ENGINE)
"""Services that must run on both nodes before High Availability is enabled (guide 2082-2094)."""
PROCEED = 'proceed'
_LOCK = 0x494D_0004
_NAME = re.compile(r'[A-Za-z0-9_-]{1,128}')
_FORBIDDEN = '"%&\\<>'


# ---- rules


def name_is_plain(group: RedundancyGroup, before: Any) -> None:
    """Letters, digits, underscores and hyphens; unique by more than case."""
    if not _NAME.fullmatch(group.name):
        raise ValidationError(
            {'name': _('Use letters, digits, underscores and hyphens, for example %(name)s.') % {'name': 'PRG_1-east'}}
        )
    if RedundancyGroup.objects.filter(name__iexact=group.name).exclude(pk=group.pk).exists():
        raise ValidationError({'name': _('The group %(name)s already exists.') % {'name': group.name}})


def description_is_plain(group: RedundancyGroup, before: Any) -> None:
    """Any sign but those the product refuses."""
    if found := [sign for sign in _FORBIDDEN if sign in group.description]:
        text = _('Leave out %(signs)s. These are not allowed: %(all)s')
        raise ValidationError(
            {'description': text % {'signs': ' '.join(found), 'all': ' '.join(_FORBIDDEN)}}
        )  # fmt: skip


def servers_fit(group: RedundancyGroup, before: Any) -> None:
    """Two different nodes of one version."""
    if group.server2 is None:
        return
    first, second = group.server1, group.server2
    if first == second:
        raise ValidationError({'server2': _('Choose another node than for Presence Server (1), or none.')})
    if first.version and second.version and first.version != second.version:
        names = {'first': first, 'version1': first.version, 'second': second, 'version2': second.version}
        text = _(
            'Both nodes must run the same version: %(first)s runs %(version1)s, %(second)s runs %(version2)s. '
            'Upgrade one of them.'
        )
        raise ValidationError({'server2': text % names})


def high_availability_fits(group: RedundancyGroup, before: Any) -> None:
    """Two nodes, and not too many users for one of them."""
    if not group.ha_enabled:
        return
    if group.server2 is None:
        raise ValidationError({'ha_enabled': _('High Availability needs two nodes. Choose Presence Server (2).')})
    users = sum(member.assigned for member in redundancy.standing(group).members)
    if users > MOST_USERS:
        text = _('High Availability serves at most %(most)d users in a group; %(users)d are assigned. Move some away.')
        raise ValidationError({'ha_enabled': text % {'most': MOST_USERS, 'users': users}})


def proceed_field(group: Any) -> forms.Field:
    """The consent to what the checks found."""
    return forms.BooleanField(
        label=gettext_lazy('Save it all the same'),
        required=False,
        help_text=gettext_lazy('Only when checks before High Availability fail, or when a node is taken out.'),
    )


def selectable(group: RedundancyGroup | None) -> QuerySet[Node]:
    """The nodes of this group, and those that are in no other but the one made for themselves."""
    others = RedundancyGroup.objects.filter(automatic=False)
    if group is not None:
        others = others.exclude(pk=group.pk)
    firsts, seconds = others.values('server1'), others.exclude(server2=None).values('server2')
    return Node.objects.exclude(Q(pk__in=firsts) | Q(pk__in=seconds)).order_by('-publisher', 'name')


# ---- writers


def create_group(actor: Actor, values: Mapping[str, Any]) -> RedundancyGroup:
    """Add a group; its nodes leave the groups that were made for themselves."""
    return _write(actor, RedundancyGroup(), values)


def update_group(actor: Actor, group: RedundancyGroup, values: Mapping[str, Any]) -> RedundancyGroup:
    """Change a group. Raises Refused where the present state is against it, and asks for consent to proceed."""
    return _write(actor, group, values)


def _write(actor: Actor, group: RedundancyGroup, values: Mapping[str, Any]) -> RedundancyGroup:
    with connection.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(%s)', [_LOCK])
    was, before = group.ha_enabled and group.pk is not None, group.nodes if group.pk else []
    for name in set(values) - {PROCEED}:
        setattr(group, name, values[name])
    after = group.nodes
    leaving = [node for node in before if node not in after]
    _take(group, after)
    if before and before != after:
        _may_change(group, was, before, leaving)
    found = _cautions(group, was, leaving, changed=bool(before) and set(before) != set(after))
    if found and not values.get(PROCEED):
        raise ValidationError({PROCEED: found})
    if group.ha_enabled != was:
        group.ha_changed_at = timezone.now()
    group.automatic = False
    group.save()
    for node in leaving:
        RedundancyGroup.house(node)
    if before and set(before) != set(after):
        _restart(actor, {*before, *after})
    return group


def _take(group: RedundancyGroup, nodes: Sequence[Node]) -> None:
    """Dissolve the automatic groups of nodes that come in; a node of another group is refused."""
    for other in RedundancyGroup.objects.exclude(pk=group.pk).filter(Q(server1__in=nodes) | Q(server2__in=nodes)):
        if not other.automatic:
            node = next(node for node in nodes if node in other.nodes)
            text = _('%(node)s is in the group %(group)s already. Take it out there first.')
            raise Refused(text % {'node': node.name, 'group': other.name})
        other.delete()


def _may_change(group: RedundancyGroup, was: bool, before: Sequence[Node], leaving: Sequence[Node]) -> None:
    """Raise Refused when nodes cannot be exchanged now."""
    if was:
        raise Refused(_('Disable High Availability and save, then change the nodes of the group.'))
    if away := served_elsewhere(before):
        raise Refused(away)
    for node in leaving:
        if node.publisher:
            raise Refused(
                _('%(node)s is the publisher: unassign its users, then delete the whole group.') % {'node': node.name}
            )
        if users := node.users.count():  # type: ignore[attr-defined]
            raise Refused(_users_left(node, users))


def _users_left(node: Node, users: int) -> str:
    return ngettext(
        'One user is assigned to %(node)s. Assign the user to another node first.',
        '%(count)d users are assigned to %(node)s. Assign them to other nodes first.',
        users,
    ) % {'count': users, 'node': node.name}


def served_elsewhere(nodes: Iterable[Node]) -> str:
    """The first of these nodes whose users another node serves, as a reason, or ''."""
    for row in NodeRecovery.objects.filter(node__in=[node.pk for node in nodes]).select_related('node', 'owner'):
        if row.owner_id != row.node_id:
            names = {'node': row.node.name, 'owner': row.owner.name}
            return _('%(owner)s serves the users of %(node)s. Use Fallback first.') % names
    return ''


def kept(group: RedundancyGroup) -> str:
    """Why the group cannot be deleted, or ''."""
    if group.automatic:
        return _('Its node is in no other group. It goes when the node is put into another group.')
    if group.ha_enabled:
        return _('High Availability is enabled. Disable it and save first.')
    for node in group.nodes:
        if users := node.users.count():  # type: ignore[attr-defined]
            return _users_left(node, users)
    return served_elsewhere(group.nodes)


def delete_group(actor: Actor, group: RedundancyGroup) -> None:
    """Delete a group; each of its nodes gets a group of its own."""
    nodes = group.nodes
    group.delete()
    for node in nodes:
        RedundancyGroup.house(node)
    if len(nodes) > 1:
        _restart(actor, nodes)


def _restart(actor: Actor, nodes: Iterable[Node]) -> None:
    """The nodes of a group that changed look for their peers anew (guide 9862)."""
    for node in nodes:
        if in_contact(node):
            commands.queue(actor.name, node, SERVER_RECOVERY_MANAGER, 'restart')


# ---- what must be consented to


def _cautions(group: RedundancyGroup, was: bool, leaving: Sequence[Node], changed: bool) -> list[str]:
    found = []
    if changed and leaving and any(in_contact(node) for node in (*group.nodes, *leaving)):
        names = {'node': leaving[0].name, 'service': _(BY_KEY[SERVER_RECOVERY_MANAGER].name)}
        found.append(_('%(node)s leaves the group: %(service)s restarts on its nodes.') % names)
    if was and not group.ha_enabled and (away := served_elsewhere(group.nodes)):
        found.append(' '.join((away, _('Without High Availability nobody brings them back.'))))
    if group.ha_enabled and not was:
        found += checks_before_ha(group)
    return found


def checks_before_ha(group: RedundancyGroup) -> list[str]:
    """What fails of the checks before High Availability is enabled, in words (guide 2045-2098, 2178-2186, 1443)."""
    nodes = group.nodes
    found = [f'{one.node.name}: {one.text}.' for one in replication.replicas(nodes) if one.setup != replication.GOOD]
    now = states(nodes)
    for node in nodes:
        down = [
            _(BY_KEY[key].name)
            for key in CHECKED
            if (node.pk, key) in now and now[node.pk, key][0] not in (State.RUNNING, State.NOT_ACTIVATED)
        ]
        if down:
            found.append(_('%(node)s: not running: %(services)s.') % {'node': node.name, 'services': ', '.join(down)})
    for node, have, wanted in redundancy.short_of_sessions([redundancy.standing(group)]):
        names = {'node': node.name, 'have': have, 'wanted': wanted}
        found.append(_('%(node)s: %(have)d of %(wanted)d sessions are there yet.') % names)
    if group.ha_changed_at is not None and timezone.now() - group.ha_changed_at < SETTLE:
        found.append(_('High Availability was changed less than two minutes ago.'))
    return [*found, _('An immediate failover may follow.')] if found else []


# ---- Failover, Fallback, Recover


class NodeForm(forms.Form):
    """The node whose button is pressed."""

    node = forms.ModelChoiceField(
        label=gettext_lazy('Server'), queryset=Node.objects.order_by('name'), to_field_name='name'
    )


VERBS = {'failover': FAILOVER, 'fallback': FALLBACK, 'recover': RECOVER}
"""Command of the page -> order of the recovery manager."""


def order(name: str) -> Any:
    """The ``run`` of a command: queues the order for the recovery manager of the node and gives its id to follow.

    Raises Refused with the state when the pair of states does not allow it (guide 2230)."""

    def run(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
        now = redundancy.standing(objects[0])
        node = data.get('node') or next((m.node for m, may in zip(now.members, now.orders, strict=True) if may), None)
        member = next((one for one in now.members if one.node == node), None)
        if data.get('node') and member is None:
            raise ValidationError({'node': _('%(node)s is not in this group.') % {'node': data['node']}})
        allowed = dict(zip([one.node.pk for one in now.members], now.orders, strict=True))
        if member is None or VERBS[name] not in allowed[member.node.pk]:
            raise Refused(_not_now(now))
        if reason := commands.why_not(member.node, SERVER_RECOVERY_MANAGER, 'restart'):
            raise Refused(reason)
        command = commands.queue(actor.name, member.node, SERVER_RECOVERY_MANAGER, VERBS[name])
        return Result(
            _TOLD[name] % {'node': member.node.name, 'group': now.group.name},
            data={'command': command.pk, 'node': member.node.name, 'order': VERBS[name]},
            impact=_impact(name, now, member),
        )

    return run


_TOLD = {
    'failover': gettext_lazy('The failover of %(node)s is ordered.'),
    'fallback': gettext_lazy('The fallback to %(node)s is ordered.'),
    'recover': gettext_lazy('The recovery of %(group)s is ordered.'),
}


def _not_now(now: redundancy.Standing) -> str:
    pairs = [f'{member.node.name}: {member.word}' for member in now.members]
    return _('This is not possible in the present state. %(states)s.') % {'states': '; '.join(pairs)}


def _impact(name: str, now: redundancy.Standing, member: redundancy.Member) -> list[tuple[str, int | None]]:
    others = [one for one in now.members if one is not member]
    names = {'node': member.node.name, 'peer': others[0].node.name if others else ''}
    if name == 'failover':
        return [
            (_('Users of %(node)s who are signed in are disconnected. They sign in at %(peer)s.') % names,
             member.node.users_online),
            (_('Critical services of %(node)s stop, until Fallback.') % names, None),
        ]  # fmt: skip
    if name == 'fallback':
        text = _('Users of %(node)s are disconnected from %(peer)s. They sign in at %(node)s.')
        return [(text % names, member.assigned), (_('Critical services of %(node)s start.') % names, None)]
    service = _(BY_KEY[SERVER_RECOVERY_MANAGER].name)
    return [(_('%(service)s restarts on both nodes.') % {'service': service}, None)]


def users_moved(objects: Sequence[Any], data: Mapping[str, Any]) -> int:
    """Users that an order touches: those homed on the node, or on all nodes of the group."""
    members = redundancy.standing(objects[0]).members
    return sum(one.assigned for one in members if data.get('node') in (None, one.node))
