"""Which rows of the history, of requests and of jobs somebody sees: those of pages he may open.

Rows name their page: history and requests by its menu path, jobs by its name. The choice is one condition of the
query, so that pages, counts and exports are right, and as fast as without it.
"""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from impadmin.console import registry, roles
from impadmin.console.access import Grants, may


def sees_all(who: Grants) -> bool:
    """Whether ``who`` may open every page, those of other versions included."""
    return roles.covers(who, '*:view')


def menus(who: Grants) -> frozenset[str]:
    """Menu paths of the pages whose rows ``who`` sees. What is done to a row of a page that tells of others (``about``)
    is told at those."""
    return frozenset(page.menu for page in registry.pages() if may(who, page) and not getattr(page, 'about', None))


def of_pages(rows: QuerySet[Any], who: Grants, field: str = 'page') -> QuerySet[Any]:
    """The rows whose ``field`` is the menu path of a page that ``who`` may open."""
    return rows if sees_all(who) else rows.filter(**{f'{field}__in': sorted(menus(who))})


def requests(rows: QuerySet[Any], who: Grants) -> QuerySet[Any]:
    """Requests for approval, by what they are about."""
    return of_pages(rows, who, 'place')


def jobs(rows: QuerySet[Any], who: Grants) -> QuerySet[Any]:
    """Jobs that work on no page, or on one that ``who`` may open."""
    hidden = [] if sees_all(who) else [page.name for page in registry.pages() if not may(who, page)]
    # without the first half a job without a page would be hidden: nothing is in no list, says SQL
    return rows.filter(Q(parameters__page__isnull=True) | ~Q(parameters__page__in=hidden)) if hidden else rows
