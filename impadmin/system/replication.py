"""What ``utils dbreplication`` tells (guide 2045-2062): whether every node works on the database as it is now.

All nodes share one PostgreSQL. A node has *replicated* when it is in contact with it and runs the newest configuration.
Copies that PostgreSQL itself keeps elsewhere are told too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from django.db import connection
from django.utils.translation import gettext as _

from impadmin.console import generations
from impadmin.system.models import Node
from impadmin.system.state import in_contact

GOOD = 2
"""The product's word for a node whose replication is set up."""
OLD, GONE = 3, 4


@dataclass(frozen=True, slots=True)
class Replica:
    """One node. ``setup``: 0 never reached the database, 2 good, 3 runs an older configuration, 4 no contact."""

    node: Node
    setup: int
    text: str


def replicas(nodes: Iterable[Node] | None = None) -> list[Replica]:
    """Every node, or these, with its value."""
    newest = generations.newest_number()
    result = []
    for node in Node.objects.order_by('-publisher', 'name') if nodes is None else nodes:
        if node.heartbeat_at is None:
            result.append(Replica(node, 0, _('Has never reached the database')))
        elif not in_contact(node):
            result.append(Replica(node, GONE, _('No contact with the database')))
        elif node.generation < newest:
            names = {'own': node.generation, 'newest': newest}
            result.append(Replica(node, OLD, _('Runs configuration %(own)d, the newest is %(newest)d') % names))
        else:
            result.append(Replica(node, GOOD, _('Setup completed')))
    return result


def mismatches() -> list[str]:
    """Parts of the newest stored configuration that differ from the tables it is made of."""
    stored, now = generations.newest(), generations.compiled()
    return [name for name in now.__struct_fields__ if name != 'generation' and _differs(stored, now, name)]


def _differs(stored: msgspec.Struct | None, now: msgspec.Struct, name: str) -> bool:
    return stored is None or getattr(stored, name) != getattr(now, name)


def copies() -> list[tuple[str, str, str]]:
    """(name, state, bytes behind) of every copy PostgreSQL sends its changes to; those this role may see."""
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT coalesce(application_name, %s), coalesce(state, %s),'
            ' coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::text, %s)'
            ' FROM pg_stat_replication WHERE NOT pg_is_in_recovery()',
            ['', '', ''],
        )
        return [(row[0], row[1], row[2]) for row in cursor.fetchall()]
