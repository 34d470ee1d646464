"""Task flows: the guide's ordered procedures as checklists that know which steps are done.

A flow is declared, and it is a page like any other (URL, REST, command line, permissions, audit)::

    TaskFlow(name='first-set-up', ..., steps=(Step(name='domain', title=_('Set the default domain'),
             page='advanced-configuration', done=domain_is_set), ...))

What a step finds in the state of the system decides whether it is done; one without ``done`` is ticked by hand. A
flow with ``from_start`` looks only at what happened since somebody pressed Start. Runs are kept (task_flow_run).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Literal

from django import forms
from django.core.exceptions import ValidationError
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import registry
from impadmin.console.access import Grants, grants_of, may
from impadmin.console.actions import Actor, Refused
from impadmin.console.facts import Facts
from impadmin.console.models import TaskFlowRun
from impadmin.console.page import Command, Help, Result, Text, ViewPage

WHEN = gettext_lazy('For this procedure, from the top: each step links to its page and says what must come before.')
EFFECT = gettext_lazy(
    'Nothing by itself: what a step is about is done on its page. Ticks are kept with who set them and when.'
)
KEPT = 20
"""Runs of one flow that are kept."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step looks at: the facts of this request, and the run (None before Start)."""

    facts: Facts
    run: TaskFlowRun | None

    @property
    def since(self) -> datetime:
        """When the run began."""
        return self.run.started_at if self.run is not None else timezone.now()

    def recorded(self, step: str) -> Mapping[str, Any]:
        """What the step recorded when it was ticked."""
        tick = self.run.ticks.get(step, {}) if self.run is not None else {}
        found: Mapping[str, Any] = tick.get('facts') or {}
        return found


@dataclass(frozen=True, slots=True)
class Progress:
    """What the check of a step found, and in words how far it is."""

    done: bool
    text: Text = ''


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step.

    page, query  where it is done ('' : elsewhere); guide: lines of the administration guide
    done      ``done(seen) -> Progress``; None: somebody ticks it
    by_hand   it may be ticked although its check does not hold yet: the tick says who took that decision
    record    ``record(facts) -> JSON`` kept with the tick, e.g. the users of each node; shown as name and value
    needs     names of the steps that must be done before; None: the one before it
    """

    name: str
    title: Text
    text: Text = ''
    page: str = ''
    query: str = ''
    guide: str = ''
    done: Callable[[Seen], Progress] | None = None
    by_hand: bool = False
    record: Callable[[Facts], Mapping[str, Any]] | None = None
    needs: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class StepNow:
    """A step as it is now. ``status``: done; next: can be done; waits: what it needs is not done."""

    step: Step
    number: int
    status: Literal['done', 'next', 'waits']
    text: str
    tick: Mapping[str, Any]
    after: tuple[str, ...]

    @property
    def ticked_at(self) -> datetime | None:
        """When it was ticked by hand."""
        return datetime.fromisoformat(self.tick['at']) if self.tick else None

    @property
    def tickable(self) -> bool:
        """Whether somebody may tick it now."""
        return self.status == 'next' and (self.step.done is None or self.step.by_hand)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFlow(ViewPage):
    """A procedure. ``guide``: lines of the guide; ``notes``: what is true of it here, e.g. what the system does itself;
    ``from_start``: only what happens after Start counts."""

    steps: tuple[Step, ...]
    guide: str = ''
    notes: tuple[Text, ...] = ()
    from_start: bool = True
    view: Callable[..., Any] = field(default_factory=lambda: flow_view)

    def __post_init__(self) -> None:
        """Data and commands follow from the steps."""
        choices = [(step.name, step.title) for step in self.steps]
        label, help_text = gettext_lazy('Step'), gettext_lazy('Name of the step.')
        asks = type(
            'StepForm', (forms.Form,), {'step': forms.ChoiceField(label=label, choices=choices, help_text=help_text)}
        )
        own = (
            ('start', gettext_lazy('Start'), start, None, True),
            ('tick', gettext_lazy('Done'), tick, asks, True),
            ('untick', gettext_lazy('Not done'), untick, asks, True),
            ('reset', gettext_lazy('Reset'), reset, None, False),
        )
        commands = tuple(
            Command(name, text, partial(run, self), scope='page', form=form, at_once=at_once)
            for name, text, run, form, at_once in own
        )
        object.__setattr__(self, 'commands', commands)
        if self.help is None:
            object.__setattr__(self, 'help', Help(WHEN, EFFECT, self.guide))
        object.__setattr__(self, 'api', partial(as_json, self))

    def problems(self) -> Iterator[tuple[str, str]]:
        """(what is wrong, what would be right), for the start-up checks."""
        pages = {page.name for page in registry.registered()}
        if not self.steps:
            yield 'it has no steps', 'Declare at least one.'
        for name, count in Counter(step.name for step in self.steps).items():
            if count > 1:
                yield f'the step {name!r} is there {count} times', 'Name every step once.'
        before: set[str] = set()
        for step in self.steps:
            if step.page and step.page not in pages:
                yield (
                    f'the step {step.name!r} names the page {step.page!r}, which does not exist',
                    'Leave the step out.',
                )
            for name in step.needs or ():
                if name not in before:
                    yield (
                        f'the step {step.name!r} needs {name!r}, which does not come before it',
                        'Name an earlier step.',
                    )
            if step.record is not None and step.done is not None and not step.by_hand:
                yield f'the step {step.name!r} records, but nobody ticks it', 'Leave out record, or add by_hand.'
            before.add(step.name)


def flows() -> list[TaskFlow]:
    """Every task flow, in the order of the menu."""
    return sorted((page for page in registry.pages() if isinstance(page, TaskFlow)), key=lambda page: page.order)


def open_run(flow: TaskFlow) -> TaskFlowRun | None:
    """The run that has not been ended."""
    return TaskFlowRun.objects.filter(flow=flow.name, ended_at=None).first()


def open_runs() -> dict[str, TaskFlowRun]:
    """The open run of every flow."""
    return {run.flow: run for run in TaskFlowRun.objects.filter(ended_at=None)}


def look(flow: TaskFlow, run: TaskFlowRun | None, facts: Facts) -> list[StepNow]:
    """Every step as it is now. A tick counts without looking; before Start nothing of a ``from_start`` flow counts."""
    seen, result = Seen(facts, run), []
    done: set[str] = set()
    for number, step in enumerate(flow.steps, 1):
        before = flow.steps[number - 2].name if number > 1 else ''
        needs = step.needs if step.needs is not None else (before,) if before else ()
        missing = tuple(str(one.title) for one in flow.steps if one.name in needs and one.name not in done)
        begun = run is not None or not flow.from_start
        tick = run.ticks.get(step.name, {}) if run is not None else {}
        progress = Progress(bool(tick))
        if begun and not tick and step.done is not None and (not missing or not flow.from_start):
            progress = step.done(seen)
        is_done = progress.done and (not missing or not flow.from_start)
        if is_done:
            done.add(step.name)
        status: Literal['done', 'next', 'waits'] = 'done' if is_done else 'next' if begun and not missing else 'waits'
        result.append(StepNow(step, number, status, str(progress.text), tick, missing))
    return result


# ---- writers


def _locked(flow: TaskFlow) -> TaskFlowRun | None:
    """The open run, with every other writer of this flow kept out until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(hashtext(%s))', [f'imp:flow:{flow.name}'])
    return open_run(flow)


def _begin(flow: TaskFlow, actor: Actor) -> TaskFlowRun:
    old = TaskFlowRun.objects.filter(flow=flow.name).order_by('-pk').values_list('pk', flat=True)[KEPT - 1 :]
    TaskFlowRun.objects.filter(pk__in=list(old)).delete()
    return TaskFlowRun.objects.create(flow=flow.name, started_by=actor.name)


def _end(run: TaskFlowRun | None) -> None:
    if run is not None:
        run.ended_at = timezone.now()
        run.save(update_fields=['ended_at'])


def start(flow: TaskFlow, actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Begin; what an earlier run found no longer counts."""
    _end(_locked(flow))
    _begin(flow, actor)
    return Result(gettext('%(flow)s has begun.') % {'flow': flow.title})


def reset(flow: TaskFlow, actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """End the run: every tick is taken away."""
    _end(_locked(flow))
    return Result(gettext('%(flow)s is reset.') % {'flow': flow.title})


def tick(flow: TaskFlow, actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Say that a step is done. Refused while a step before it is not, and for steps that the system checks itself."""
    facts = Facts()
    run = _locked(flow)
    now = next((one for one in look(flow, run, facts) if one.step.name == data['step']), None)
    if now is None:
        raise ValidationError({'step': gettext('There is no such step.')})
    if run is None and flow.from_start:
        raise Refused(gettext('Press Start first.'))
    if now.after:
        raise Refused(gettext('First: %(steps)s.') % {'steps': gettext(', ').join(now.after)})
    if not now.tickable:
        text = now.text or gettext('The system ticks this step by itself.')
        raise Refused(gettext('It is done already.') if now.status == 'done' else text)
    run = run or _begin(flow, actor)
    recorded = dict(now.step.record(facts)) if now.step.record is not None else {}
    run.ticks[now.step.name] = {'by': actor.name, 'at': timezone.now().isoformat(), 'facts': recorded}
    run.save(update_fields=['ticks'])
    return Result(gettext('Done: %(step)s.') % {'step': now.step.title}, data={'recorded': recorded})


def untick(flow: TaskFlow, actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Take a tick away."""
    run = _locked(flow)
    if run is None or run.ticks.pop(data['step'], None) is None:
        raise Refused(gettext('Nobody has ticked this step.'))
    run.save(update_fields=['ticks'])
    return Result(gettext('The step is open again.'))


# ---- the page, and the same as data


def links(steps: Sequence[StepNow], who: Grants) -> list[tuple[StepNow, str, Text]]:
    """(step, URL, title) with the page of each step, for those who may look there."""
    result: list[tuple[StepNow, str, Text]] = []
    for now in steps:
        page = registry.page(now.step.page) if now.step.page else None
        if page is None or not may(who, page):
            result.append((now, '', ''))
        else:
            result.append((now, registry.page_url(page) + (f'?{now.step.query}' if now.step.query else ''), page.title))
    return result


def flow_view(request: HttpRequest, page: TaskFlow) -> HttpResponse:
    """The checklist, or with ``?part=steps`` only its steps."""
    run = open_run(page)
    steps = look(page, run, Facts())
    who = grants_of(request)
    context = {
        'page': page,
        'run': run,
        'steps': links(steps, who),
        'done': sum(now.status == 'done' for now in steps),
        'current': next((now.step.name for now in steps if now.status == 'next'), ''),
        'writes': {command.name: may(who, page, f'do/{command.name}') for command in page.commands},
        'ending': next(command for command in page.commands if command.name == 'reset'),
    }
    part = request.GET.get('part') == 'steps'
    return render(request, 'console/flow_steps.html' if part else 'console/flow.html', context)


def as_json(flow: TaskFlow, request: HttpRequest) -> dict[str, Any]:
    """The flow, its run and every step."""
    run = open_run(flow)
    steps = look(flow, run, Facts())
    return {
        'title': str(flow.title),
        'guide': flow.guide,
        'started_by': run.started_by if run is not None else None,
        'started_at': run.started_at if run is not None else None,
        'done': sum(now.status == 'done' for now in steps),
        'steps': [
            {
                'name': now.step.name,
                'title': str(now.step.title),
                'status': now.status,
                'text': now.text,
                'page': url,
                'ticked_by': now.tick.get('by'),
                'ticked_at': now.tick.get('at'),
                'recorded': now.tick.get('facts') or {},
                'waits_for': list(now.after),
            }
            for now, url, _title in links(steps, grants_of(request))
        ],
    }


def overview(who: Grants) -> list[dict[str, Any]]:
    """Every flow this user may look at, with how far it is."""
    facts, runs, result = Facts(), open_runs(), []
    for flow in flows():
        if may(who, flow):
            run = runs.get(flow.name)
            steps = look(flow, run, facts)
            done = sum(now.status == 'done' for now in steps)
            result.append(
                {
                    'flow': flow,
                    'name': flow.name,
                    'title': str(flow.title),
                    'intro': str(flow.intro),
                    'url': registry.page_url(flow),
                    'run': run,
                    'begun': run is not None or not flow.from_start,
                    'done': done,
                    'total': len(steps),
                    'percent': 100 * done // len(steps),
                    'next': next((str(now.step.title) for now in steps if now.status == 'next'), ''),
                }
            )
    return result


def list_view(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Every task flow."""
    return render(request, 'console/flows.html', {'page': page, 'flows': overview(grants_of(request))})


def list_json(request: HttpRequest) -> dict[str, Any]:
    """The same as data."""
    shown = ('name', 'title', 'begun', 'done', 'total', 'next')
    return {'flows': [{name: entry[name] for name in shown} for entry in overview(grants_of(request))]}
