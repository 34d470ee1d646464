"""The services of every node as Control Center shows them: rows of services by group, a column for each node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.messages import decode
from engine.contract.services import SERVICES, Service, State
from impadmin.console import notifications
from impadmin.console.page import Text
from impadmin.console.templatetags.console import age
from impadmin.system.models import Node, ServiceCommand, ServiceStatus
from impadmin.system.state import MARKS, in_contact, node_state, states

WORDS: dict[State, Text] = {
    State.NOT_ACTIVATED: gettext_lazy('Not Activated'),
    State.STOPPED: gettext_lazy('Stopped'),
    State.STARTING: gettext_lazy('Starting'),
    State.RUNNING: gettext_lazy('Running'),
    State.STOPPING: gettext_lazy('Stopping'),
    State.FAILED: gettext_lazy('Failed'),
}
_RESTART = 'restart'
_COUNTED: tuple[tuple[str, str, Text], ...] = (
    (State.RUNNING, 'ok', gettext_lazy('running')),
    (_RESTART, 'warn', gettext_lazy('to be restarted')),
    (State.STARTING, 'busy', gettext_lazy('starting')),
    (State.STOPPING, 'busy', gettext_lazy('stopping')),
    (State.FAILED, 'bad', gettext_lazy('failed')),
    (State.STOPPED, 'off', gettext_lazy('stopped')),
    (State.NOT_ACTIVATED, 'off', gettext_lazy('not activated')),
)
_MOVING = {'start': State.STARTING, 'stop': State.STOPPING, 'restart': State.STOPPING}


@dataclass(frozen=True, slots=True)
class Cell:
    """One service on one node. ``status``: what the node wrote; ``restart``: it runs, and must be restarted."""

    node: Node
    service: Service
    state: State
    status: ServiceStatus | None
    restart: bool

    @property
    def value(self) -> str:
        """Names the cell in forms and URLs."""
        return f'{self.node.name}:{self.service.key}'

    @property
    def live(self) -> str:
        """Topic of the live view."""
        return f'service:{self.value}'

    @property
    def condition(self) -> str:
        """What it is counted as."""
        return _RESTART if self.restart else self.state

    @property
    def mark(self) -> str:
        """ok, warn, bad, busy or off."""
        return 'warn' if self.restart else MARKS[self.state]

    @property
    def word(self) -> Text:
        """The state in words."""
        return _('Restart needed') if self.restart else WORDS[self.state]

    @property
    def since(self) -> datetime | None:
        """Since when it runs."""
        return self.status.since if self.status is not None and self.state == State.RUNNING else None

    @property
    def text(self) -> Text:
        """How long it runs, else its state."""
        return self.word if self.restart or self.since is None else age(self.since)

    @property
    def detail(self) -> str:
        """What the node says about the state, as long as it reports."""
        return decode(self.status.detail, _) if self.status is not None and in_contact(self.node) else ''


@dataclass(frozen=True, slots=True)
class Row:
    """One service; None where a node has it not."""

    service: Service
    cells: Sequence[Cell | None]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Nodes, the publisher first, and the rows. ``broken``: keys of nodes with a service that should run."""

    nodes: Sequence[Node]
    rows: Sequence[Row]
    broken: frozenset[int]

    def cells(self) -> Iterator[Cell]:
        """Every cell that there is."""
        return (cell for row in self.rows for cell in row.cells if cell is not None)

    def heads(self) -> list[dict[str, object]]:
        """A column for each node: its state and topic."""
        return [
            {'node': node, 'state': node_state(node, node.pk in self.broken), 'live': f'node:{node.name}'}
            for node in self.nodes
        ]

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows under the titles of their groups."""
        titles = dict.fromkeys(row.service.group for row in self.rows)
        return [(_(title), [row for row in self.rows if row.service.group == title]) for title in titles]

    def counts(self) -> list[tuple[str, Text, int]]:
        """(mark, word, how many) of each condition that occurs."""
        found = Counter(cell.condition for cell in self.cells())
        return [(mark, word, found[key]) for key, mark, word in _COUNTED if found[key]]


def matrix(kind: str = '') -> Matrix:
    """Services of a kind ('feature', 'network'; '' for both) on every node, as they are now. An order that a node in
    contact has not carried out yet shows as its beginning."""
    nodes = list(Node.objects.order_by('-publisher', 'name'))
    known = states(nodes)
    needed = {(one.node, one.service) for one in notifications.active() if one.kind == 'restart' and one.service}
    waiting = ServiceCommand.objects.filter(node__in=nodes, finished_at=None, verb__in=_MOVING).order_by('id')
    ordered = {(one.node_id, one.service): _MOVING[one.verb] for one in waiting}

    def cell(node: Node, service: Service) -> Cell | None:
        if (found := known.get((node.pk, service.key))) is None:
            return None
        state, status = found
        if in_contact(node):
            state = ordered.get((node.pk, service.key), state)
        restart = state == State.RUNNING and (node.name, service.key) in needed
        return Cell(node, service, state, status, restart)

    wanted = [service for service in SERVICES if kind in ('', service.kind)]
    rows = [Row(service, [cell(node, service) for node in nodes]) for service in wanted]
    broken = frozenset(pk for (pk, _key), (state, _row) in known.items() if state in (State.FAILED, State.STOPPED))
    return Matrix(nodes, [row for row in rows if any(row.cells)], broken)
