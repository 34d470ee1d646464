"""Automatic assignment of users to nodes by the Sync Agent (guide 2454-2465, spec 03 User assignment mode)."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection, transaction

from engine.contract.services import ENTERPRISE_PARAMS
from impadmin.system.models import Node, ParameterValue, RedundancyGroup

BALANCED, ACTIVE_STANDBY, NONE = 'balanced', 'active_standby', 'none'
_LOCK = 0x494D_0002


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one run did: the mode in force, users assigned per node name, their ids."""

    mode: str
    per_node: dict[str, int]
    ids: list[int]


def mode() -> str:
    """The enterprise parameter User Assignment Mode for Presence Server."""
    stored = ParameterValue.objects.filter(service='', name='user_assignment_mode', node=None).first()
    default = next(param.default for param in ENTERPRISE_PARAMS if param.name == 'user_assignment_mode')
    return str(stored.value if stored else default)


def quotas(counts: list[int], new: int) -> list[int]:
    """How many of ``new`` users each node gets so that the totals come as close as they can; nobody moves.

    Ties go to the earlier node. ``quotas([30, 10], 100)`` is ``[40, 60]``.
    """
    result = [0] * len(counts)
    if not counts:
        return result
    totals = list(counts)
    order = sorted(range(len(counts)), key=lambda i: (totals[i], i))
    left = new
    # fill the emptiest nodes up to the level of the next one, together, until nothing is left
    for size in range(1, len(order) + 1):
        group = order[:size]
        level = totals[group[0]]
        room = (totals[order[size]] - level) * size if size < len(order) else left
        step = min(left, room)
        each, rest = divmod(step, size)
        for place, i in enumerate(sorted(group)):
            share = each + (place < rest)
            totals[i] += share
            result[i] += share
        left -= step
        if not left:
            break
    return result


def _groups() -> list[RedundancyGroup]:
    """The subclusters: every node is in one redundancy group."""
    groups = RedundancyGroup.objects.select_related('server1', 'server2')
    return list(groups.order_by('-server1__publisher', 'server1'))


def _shares(chosen: str, subclusters: list[list[Node]], assigned: dict[int, int], new: int) -> list[tuple[Node, int]]:
    """How many of ``new`` users each node gets: the subcluster with the fewest users first, inside it by the mode."""
    counts = [[assigned.get(node.pk, 0) for node in nodes] for nodes in subclusters]
    shares = []
    for nodes, own, share in zip(subclusters, counts, quotas([sum(own) for own in counts], new), strict=True):
        inside = [share] + [0] * (len(nodes) - 1) if chosen == ACTIVE_STANDBY else quotas(own, share)
        shares += list(zip(nodes, inside, strict=True))
    return shares


def assign_automatically(only: list[int] | None = None, use_mode: str | None = None) -> Assignment:
    """Assign every eligible unassigned user, or those of ``only``; set-based, in one transaction."""
    chosen = use_mode or mode()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(%s)', [_LOCK])
        subclusters = [group.nodes for group in _groups()]
        if chosen == NONE or not subclusters:
            return Assignment(chosen, {}, [])
        eligible = 'active AND home_cluster AND im_enabled AND home_node_id IS NULL'
        arguments: list[object] = []
        if only is not None:
            eligible += ' AND id = ANY(%s)'
            arguments.append(only)
        cursor.execute(f'SELECT id FROM end_user WHERE {eligible} ORDER BY id FOR UPDATE', arguments)  # noqa: S608
        ids = [row[0] for row in cursor.fetchall()]
        if not ids:
            return Assignment(chosen, {}, [])
        cursor.execute('SELECT home_node_id, count(*) FROM end_user WHERE home_node_id IS NOT NULL GROUP BY 1')
        shares = _shares(chosen, subclusters, dict(cursor.fetchall()), len(ids))
        start = 0
        for node, share in shares:
            cursor.execute(
                'UPDATE end_user SET home_node_id = %s, updated_at = now() WHERE id = ANY(%s)',
                [node.pk, ids[start : start + share]],
            )
            start += share
    return Assignment(chosen, {node.name: share for node, share in shares if share}, ids)
