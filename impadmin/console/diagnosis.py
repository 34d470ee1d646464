"""Declared health checks: what the System Troubleshooter runs and the System Dashboard shows of it (guide 11215-11269).

An area declares its checks in ``diagnosis.py`` and registers them::

    register(Check(name='nodes', section=SYSTEM, title=_('Every node reports'), page='cluster-topology', run=nodes))
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db import OperationalError, connection, transaction
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import registry
from impadmin.console.access import Grants, may
from impadmin.console.facts import Facts
from impadmin.console.page import Text

TIMEOUT_S = 10
"""How long the database may work on one question of a check."""
DETAILED = 10
"""Objects named one by one; the rest is counted (guide 8563)."""

Outcome = Literal['passed', 'warning', 'failed']


@dataclass(frozen=True, slots=True)
class Section:
    """A category of tests, and its place among them."""

    title: Text
    order: int


SYSTEM = Section(gettext_lazy('System'), 0)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, what to do about it, and the page (one object: ``pk``; a part of it: ``query``) to do it on."""

    text: Text
    solution: Text
    page: str = ''
    pk: object = ''
    query: str = ''
    since: datetime | None = None
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One test. ``run(facts)`` gives its problems, none when it passes; ``page`` is where they are repaired.

    attention  its problems also stand at the top of the System Dashboard: it must be cheap
    """

    name: str
    section: Section
    title: Text
    run: Callable[[Facts], Iterable[Problem]]
    page: str
    attention: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a check found."""

    check: Check
    problems: tuple[Problem, ...]

    @property
    def outcome(self) -> Outcome:
        """passed; warning when every problem is only one; else failed."""
        if not self.problems:
            return 'passed'
        return 'warning' if all(problem.warning for problem in self.problems) else 'failed'

    def link(self, problem: Problem, who: Grants) -> tuple[str, Text]:
        """(URL, title) of the page to repair it on; empty for those who may not look there."""
        page = registry.page(problem.page or self.check.page)
        if not may(who, page):
            return '', ''
        return registry.page_url(page, pk=problem.pk) + (f'?{problem.query}' if problem.query else ''), page.title


_checks: list[Check] = []


def register(*checks: Check) -> None:
    """Add checks; called at the end of an area's ``diagnosis.py``."""
    _checks.extend(checks)


def checks() -> Sequence[Check]:
    """Every check, by section."""
    _load()
    return sorted(_checks, key=lambda check: check.section.order)


@functools.cache
def _load() -> None:
    autodiscover_modules('diagnosis')


def run(facts: Facts, wanted: Iterable[Check] | None = None) -> list[Result]:
    """Run the checks, each on its own: one that fails to end in time says so and does not hold up the others."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{TIMEOUT_S}s'")
        return [Result(check, tuple(_bounded(check, facts))) for check in (checks() if wanted is None else wanted)]


def attention(facts: Facts) -> list[tuple[Result, Problem]]:
    """The problems for the dashboard, the worst first."""
    found = run(facts, [check for check in checks() if check.attention])
    return sorted(
        ((result, problem) for result in found for problem in result.problems), key=lambda pair: pair[1].warning
    )


def _bounded(check: Check, facts: Facts) -> Iterable[Problem]:
    try:
        with transaction.atomic():
            return facts.about(check.run)
    except OperationalError:
        text = gettext('The test did not end within %(seconds)s seconds.') % {'seconds': TIMEOUT_S}
        return [Problem(text, gettext('Run it again when the database is less busy.'), warning=True)]


def problems() -> Iterator[tuple[str, str]]:
    """(what is wrong, what would be right) of the declarations, for the start-up checks."""
    pages = {page.name for page in registry.registered()}
    for name, count in Counter(check.name for check in checks()).items():
        if count > 1:
            yield f'the check {name!r} is declared {count} times', 'Name every check once.'
    for check in checks():
        if check.page not in pages:
            yield f'the check {check.name!r} names the page {check.page!r}, which does not exist', 'Name a page.'


def listed(names: Sequence[str], total: int | None = None) -> str:
    """The first names, and how many there are more."""
    shown = gettext(', ').join(names[:DETAILED])
    more = (len(names) if total is None else total) - min(len(names), DETAILED)
    return gettext('%(names)s and %(count)s more') % {'names': shown, 'count': more} if more > 0 else shown
