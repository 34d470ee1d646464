"""The services behind a page, with their state: which a page names follows from its declaration.

A page shows the services that must restart for its values (``engine.contract.restarts``), those it declares in
``works_through``, of a page of service parameters the chosen one, and of any other page that configures the nodes the
agent that takes the configuration there. The states come from the area that has the nodes, in a bounded number of
queries whatever the page names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext

from engine.contract.restarts import RULES
from engine.contract.services import BY_KEY, CONFIG_AGENT, State
from impadmin.console import notifications, registry
from impadmin.console.access import Grants, grants_of, may
from impadmin.console.page import BasePage, ParameterPage

CONTROL_CENTER = {'feature': 'control-center', 'network': 'control-center-network'}
MARKS = {
    State.RUNNING: 'ok',
    State.STARTING: 'busy',
    State.STOPPING: 'busy',
    State.STOPPED: 'off',
    State.NOT_ACTIVATED: 'off',
    State.FAILED: 'bad',
}
WORST = (
    State.FAILED,
    State.STOPPED,
    State.STOPPING,
    State.STARTING,
    State.RUNNING,
    State.NOT_ACTIVATED,
)
StatesOf = Callable[[Sequence[str]], Mapping[str, Mapping[str, State]]]
_sources: list[StatesOf] = []


def register_source(function: StatesOf) -> StatesOf:
    """Make ``function`` the one that knows states: ``function(keys) -> {service key: {node name: state}}``."""
    _sources[:] = [function]
    return function


@dataclass(frozen=True, slots=True)
class Line:
    """One service of a page: its state on all nodes together, in words; ``live``: what keeps it current."""

    key: str
    name: str
    mark: str
    word: str
    url: str
    live: tuple[str, ...]


def named(page: BasePage, chosen: str = '') -> tuple[str, ...]:
    """Keys of the services ``page`` names; ``chosen``: the service whose parameters it shows."""
    if isinstance(page, ParameterPage):
        return (chosen,) if chosen in BY_KEY else ()
    rules = [rule for rule in RULES if rule.page == page.menu and not rule.advice]
    restarted = [service for rule in rules for service in rule.services]
    keys = tuple(dict.fromkeys((*page.works_through, *restarted)))
    return keys or ((CONFIG_AGENT,) if getattr(page, 'configures', False) else ())


def lines(who: Grants, keys: Iterable[str]) -> list[Line]:
    """The services with their states, for those who may look at the Control Center."""
    wanted = [key for key in keys if may(who, registry.page(CONTROL_CENTER[BY_KEY[key].kind]))]
    if not wanted:
        return []
    waiting = {(one.service, one.node) for one in notifications.active() if one.kind == 'restart'}
    states = _sources[0](wanted)
    return [_line(key, states.get(key, {}), {node for service, node in waiting if service == key}) for key in wanted]


def _line(key: str, states: Mapping[str, State], waiting: set[str]) -> Line:
    worst = min(states.values(), key=WORST.index, default=State.NOT_ACTIVATED)
    mark, count = MARKS[worst], sum(state == worst for state in states.values())
    word = gettext(str(worst))
    if len(states) > 1 and worst != State.NOT_ACTIVATED:
        shown = {'state': word, 'count': count, 'total': len(states)}
        everywhere = count == len(states)
        text = (
            gettext('%(state)s on %(total)s nodes')
            if everywhere
            else gettext('%(state)s on %(count)s of %(total)s nodes')
        )
        word = text % shown
    if worst == State.RUNNING and waiting:
        mark, word = 'warn', gettext('%(state)s, restart needed') % {'state': word}
    service = BY_KEY[key]
    url = registry.page_url(CONTROL_CENTER[service.kind])
    return Line(key, gettext(service.name), mark, word, url, tuple(f'service:{node}:{key}' for node in states))


def states_view(request: HttpRequest) -> HttpResponse:
    """The lines of some services (``?of=KEY,KEY``), asked for again when a state changed."""
    keys = request.GET.get('of', '').split(',')
    if not all(key in BY_KEY for key in keys):
        raise Http404
    return render(request, 'console/services_lines.html', {'services': lines(grants_of(request), keys)})
