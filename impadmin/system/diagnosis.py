"""Tests of redundancy groups for System Troubleshooter and System Dashboard (guide 2045-2062, 2264-2307)."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.recovery import State
from impadmin.console.diagnosis import Check, Problem, Section, register
from impadmin.console.facts import Facts
from impadmin.system import redundancy, replication

REDUNDANCY = Section(gettext_lazy('Redundancy'), 35)
PAGE = 'presence-redundancy-groups'


def nodes_are_normal(facts: Facts) -> Iterator[Problem]:
    """Both nodes of every group with High Availability are Normal."""
    for one in facts(redundancy.standings):
        members = [member for member in one.members if member.state not in (None, State.NORMAL)]
        if not members:
            continue
        states = '; '.join(f'{member.node.name}: {member.word}' for member in members)
        cause, *steps = one.advice or ['']
        yield Problem(
            f'{one.group.name}: {states}. {cause}',
            ' '.join(steps) or _('Wait until it has ended.'),
            since=max((member.since for member in members if member.since), default=None),
            pk=one.group.pk,
            warning=one.state[0] != 'bad',
        )


def groups_are_alike(facts: Facts) -> Iterator[Problem]:
    """High Availability is on in every pair, or in none (guide 2023)."""
    pairs = [one.group for one in facts(redundancy.standings) if one.group.server2_id]
    off = [group.name for group in pairs if not group.ha_enabled]
    if off and len(off) < len(pairs):
        text = _('High Availability is off in some groups only: %(groups)s.')
        solution = _('This is possible but not recommended. Enable it there too.')
        yield Problem(text % {'groups': ', '.join(off)}, solution, warning=True)


def replication_is_set_up(facts: Facts) -> Iterator[Problem]:
    """Every node that reports works with the newest configuration."""
    for one in facts(replication.replicas):
        if one.setup == replication.OLD:
            solution = _('Wait a moment. If it stays, restart Cisco Config Agent on the node.')
            yield Problem(f'{one.node.name}: {one.text}.', solution, page='control-center-network', warning=True)


register(
    Check(name='redundancy', section=REDUNDANCY, title=gettext_lazy('Every node with High Availability is Normal'),
          page=PAGE, run=nodes_are_normal, attention=True),
    Check(name='redundancy-mixed', section=REDUNDANCY, title=gettext_lazy('All pairs of nodes have High Availability'),
          page=PAGE, run=groups_are_alike),
    Check(name='replication', section=REDUNDANCY, title=gettext_lazy('Every node has the newest configuration'),
          page=PAGE, run=replication_is_set_up),
)  # fmt: skip
