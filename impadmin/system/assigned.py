"""Users by the node they are assigned to. All of it is counted from one index (``end_user_standing``), without a look
at the users themselves: joined to the nodes each of 75,000 would be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from impadmin.ucm.models import EndUser

LIVE = Q(im_enabled=True, active=True, home_cluster=True)
"""Users who have a composed session; the engine counts them so (engine/store/status.py)."""


class Users(NamedTuple):
    """How many users a node has, and how many of them can sign in."""

    every: int = 0
    live: int = 0


NOBODY = Users()


def by_node(nodes: Iterable[int] | None = None) -> dict[int | None, Users]:
    """Node id (None: assigned to none) -> its users, of these nodes or all. Nodes without users are not in it."""
    users = EndUser.objects.order_by() if nodes is None else EndUser.objects.filter(home_node__in=nodes).order_by()
    rows = users.values_list('home_node').annotate(every=Count('*'), live=Count('im_enabled', filter=LIVE))
    return {node: Users(every, live) for node, every, live in rows}


def count() -> Any:
    """The number of a node's users, for ``annotate``."""
    users = EndUser.objects.filter(home_node=OuterRef('pk')).order_by().values('home_node')
    return Coalesce(Subquery(users.annotate(every=Count('*')).values('every')), 0)
