"""Configuration as code: the whole configuration as one YAML document, and back, with a plan.

    version: 1
    lists:       {domains: [{name: example.org}, ...]}      every page whose objects configure the service
    settings:    {messaging-settings: {im_enabled: true}}
    parameters:  {enterprise: {...}, cluster: {xcp_router: {...}}, nodes: {imp1: {xcp_connection_manager: {...}}}}

Objects are matched by the key that an import uses too (declared, else the first unique field, else a unique group).
What the document does not name stays; with ``prune`` objects of the named lists that it lacks are deleted. Parameters
are those that differ from their defaults; null goes back to the default. Secrets are never exported; a value may be
given by reference: ``{from_env: NAME}`` or ``{from_file: PATH}``. Everything is applied in one transaction through
REST's own views, so the same rules hold, and the whole document takes effect or nothing does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import yaml
from django.db import transaction

from engine.contract.services import BY_KEY, ENTERPRISE_PARAMS, SERVICES
from impadmin.console import audit, forms, foureyes, local_api, parameter_values, registry
from impadmin.console.actions import Actor, Preview, Verdict
from impadmin.console.imports import key_names, unique_groups
from impadmin.console.page import BasePage, Page, SettingsPage

VERSION = 1
LARGEST = 64 * 1024 * 1024
PAGE_SIZE = 1000
PARTS = ('version', 'lists', 'settings', 'parameters')
REFERENCES = ('from_env', 'from_file')


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the plan does: ``where`` is the page or parameter group, ``changes`` (field, before, after)."""

    verb: Literal['add', 'change', 'delete']
    where: str
    name: str
    changes: tuple[tuple[str, Any, Any], ...] = ()


@dataclass(slots=True)
class Plan:
    """What applying a document does, in order, and every problem of it; with a problem nothing is applied."""

    steps: list[Step] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _Held(Exception):
    """A part of it waits for approval: then all of it does."""


class _Undo(Exception):
    pass


def lists() -> list[Page]:
    """Pages whose objects are configuration: they can be added, changed and named. People are not, nor is what has a
    secret of its own that the engine does not need: it would be another one elsewhere."""
    return [
        page
        for page in registry.pages()
        if isinstance(page, Page)
        and not page.waits_for
        and {'add', 'edit'} <= set(page.verbs)
        and key_names(page)
        and (page.configures or _is_plain(page))
    ]


def _is_ours(page: Page, row: Mapping[str, Any]) -> bool:
    """Whether an object is part of the configuration; a built-in one is part of the release."""
    if page.derived is not None:
        return not page.model._default_manager.filter(page.derived, pk=row[page.model._meta.pk.name]).exists()
    if page.configures or page.locked is None:
        return True
    return not str(page.locked(page.model._default_manager.get(pk=row[page.model._meta.pk.name])))


def _is_plain(page: Page) -> bool:
    """Whether objects have a key that is one, and nothing in them that must not be read."""
    key = set(key_names(page))
    names = {one.name for one in page.model._meta.concrete_fields}
    unique = any(set(group) == key for group in unique_groups(page.model))
    return unique and not page.personal and names.isdisjoint({*audit.SECRET, 'sealed'})


def settings_pages() -> list[SettingsPage]:
    """Pages of one row."""
    return [page for page in registry.pages() if isinstance(page, SettingsPage) and not page.waits_for]


def export(actor: Actor) -> dict[str, Any]:
    """The configuration as a document of plain values."""
    return {
        'version': VERSION,
        'lists': {
            page.name: [_plain(page, row) for row in _rows(actor, page) if _is_ours(page, row)] for page in lists()
        },
        'settings': {page.name: _plain(page, _read(actor, page)) for page in settings_pages()},
        'parameters': _parameters(),
    }


def dump(document: Mapping[str, Any]) -> str:
    """As YAML, in a fixed order, so that two exports can be compared."""
    text: str = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)
    return text


def load(text: bytes) -> dict[str, Any]:
    """Read a document. Raises ValueError that says what is wrong and where."""
    if len(text) > LARGEST:
        raise ValueError(f'The document is larger than {LARGEST} bytes.')
    try:
        document = yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader without aliases)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'This is not YAML: {" ".join(str(error).split())}') from None
    if not isinstance(document, dict):
        raise ValueError(f'The document must have the parts {", ".join(PARTS)}.')
    if unknown := [str(name) for name in document if name not in PARTS]:
        raise ValueError(f'There is no part {unknown[0]}. Parts: {", ".join(PARTS)}.')
    if document.get('version') != VERSION:
        raise ValueError(f'version must be {VERSION}.')
    return document


class _Loader(yaml.SafeLoader):
    """No aliases: a short document cannot become a huge one. No key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f'aliases are not allowed (line {event.start_mark.line + 1})')
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise yaml.YAMLError(f'names are texts (line {key.start_mark.line + 1})')
            if name in seen:
                raise yaml.YAMLError(f'{name} occurs twice (line {key.start_mark.line + 1})')
            seen.add(name)
        return super().construct_mapping(node, deep)


def apply(actor: Actor, document: Mapping[str, Any], *, prune: bool = False, dry_run: bool = False) -> Plan:
    """Make the configuration what ``document`` says; returns what was done, or with ``dry_run`` would be."""
    plan = Plan()
    rehearsed = audit.rehearsed.set(audit.Rehearsal() if dry_run else audit.rehearsed.get())
    try:
        with transaction.atomic():
            for one in _work(actor, document, prune, plan):
                one.run(plan)
            if plan.problems or dry_run:
                raise _Undo
    except _Undo:
        pass
    except _Held:
        call = {'do': foureyes.APPLY, 'document': foureyes.document(document), 'prune': prune}
        with foureyes.compared():
            would = as_preview(apply(actor, document, prune=prune, dry_run=True))
        raise foureyes.waiting(actor, 'configuration', foureyes.APPLY, call, would) from None
    finally:
        audit.rehearsed.reset(rehearsed)
    return plan


def as_preview(plan: Plan) -> Preview:
    """The plan as other previews are shown."""
    verbs = {'add': 'create', 'change': 'update', 'delete': 'delete'}
    return Preview(
        tuple(
            Verdict(
                f'{step.where} {step.name}',
                verbs[step.verb],
                tuple((name, audit.display(old), audit.display(new)) for name, old, new in step.changes),
            )
            for step in plan.steps
        )
    )


@dataclass(slots=True)
class _Write:
    """One request of the plan."""

    actor: Actor
    step: Step
    method: str
    path: str
    body: Any

    def attempt(self) -> list[str]:
        """Messages of a refusal; [] when it is done."""
        from impadmin.console.cli import problem

        with transaction.atomic():
            sid = transaction.savepoint()
            answer = local_api.call(self.actor, self.method, f'/api/v1/{self.path}', self.body)
            if answer.status == 202:
                raise _Held
            if answer.status < 400:
                transaction.savepoint_commit(sid)
                return []
            transaction.savepoint_rollback(sid)
        return [
            f'{self.step.where} {self.step.name}: {line}'.replace('  ', ' ')
            for line in problem(answer.data).split('\n')
        ]

    def run(self, plan: Plan) -> bool:
        """Do it; note step or problems."""
        if found := self.attempt():
            plan.problems += found
            return False
        plan.steps.append(self.step)
        return True


def _work(actor: Actor, document: Mapping[str, Any], prune: bool, plan: Plan) -> Iterator[_Write]:
    """Writes in order: lists (an object may need another one first), settings, parameters, deletions."""
    known = {page.name: page for page in lists()}
    removals: list[_Write] = []
    waiting: list[_Write] = []
    for name, rows in _part(document, 'lists', plan).items():
        page = known.get(name)
        if page is None or not isinstance(rows, list):
            told = 'must be a list of objects' if page else f'is no list of configuration. Lists: {", ".join(known)}'
            plan.problems.append(f'lists {name}: {told}.')
            continue
        writes, removed = _list(actor, page, rows, prune, plan)
        waiting += writes
        removals += removed
    while waiting:
        left = [write for write in waiting if not write.run(Plan())]
        plan.steps += [write.step for write in waiting if write not in left]
        if len(left) == len(waiting):
            break
        waiting = left
    yield from waiting  # what no order makes possible: says why
    forms_of = {page.name: page for page in settings_pages()}
    for name, values in _part(document, 'settings', plan).items():
        if name not in forms_of or not isinstance(values, dict):
            plan.problems.append(f'settings {name}: there is no such settings page. There are: {", ".join(forms_of)}.')
            continue
        wanted = _resolved(values, f'settings {name}', plan)
        before = _plain(forms_of[name], _read(actor, forms_of[name]))
        changes = _changes(before, wanted)
        if changes:
            body = {one: wanted[one] for one, _, _ in changes}
            yield _Write(actor, Step('change', 'settings', name, changes), 'PATCH', f'{name}/', body)
    yield from _parameter_work(actor, _part(document, 'parameters', plan), plan)
    yield from removals


def _part(document: Mapping[str, Any], name: str, plan: Plan) -> dict[str, Any]:
    found = document.get(name) or {}
    if isinstance(found, dict):
        return found
    plan.problems.append(f'{name}: must have names and values.')
    return {}


def _list(actor: Actor, page: Page, rows: list[Any], prune: bool, plan: Plan) -> tuple[list[_Write], list[_Write]]:
    where, names = f'lists {page.name}', key_names(page)
    present = {_key(page, row): row for row in _rows(actor, page)}
    folded = {_folded(key): key for key in present}
    writes: list[_Write] = []
    named: set[tuple[str, ...]] = set()
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str | int) for name in names):
            plan.problems.append(f'{where}: each object needs its {", ".join(names)}.')
            continue
        given = _key(page, row)
        key = folded.get(_folded(given), given)
        wanted = _resolved(row, f'{where} {_name(given)}', plan)
        if key in named:
            plan.problems.append(f'{where}: {_name(given)} occurs twice.')
        named.add(key)
        if key not in present:
            changes = tuple((one, None, value) for one, value in wanted.items())
            writes.append(_Write(actor, Step('add', where, _name(key), changes), 'POST', f'{page.name}/', wanted))
            continue
        changes = _changes(_plain(page, present[key]), {one: v for one, v in wanted.items() if one not in names})
        if changes:
            body = {one: wanted[one] for one, _, _ in changes}
            writes.append(
                _Write(actor, Step('change', where, _name(key), changes), 'PATCH', _path(page, present[key]), body)
            )
    removed = [
        _Write(actor, Step('delete', where, _name(key)), 'DELETE', _path(page, row), None)
        for key, row in present.items()
        if prune and key not in named and 'delete' in page.verbs and not _kept(page, row)
    ]
    return writes, removed


def _kept(page: Page, row: Mapping[str, Any]) -> bool:
    """An object that the system keeps by itself is not pruned."""
    if page.undeletable is None:
        return False
    found = page.model._default_manager.filter(pk=row[page.model._meta.pk.name]).first()
    return found is not None and bool(str(page.undeletable(found)))


def _parameter_work(actor: Actor, part: Mapping[str, Any], plan: Plan) -> Iterator[_Write]:
    groups: list[tuple[str, str, str, Any]] = []
    if 'enterprise' in part:
        groups.append(('enterprise', '', '', part['enterprise']))
    publisher = next((node.name for node in _nodes() if node.publisher), '')
    for service, values in (part.get('cluster') or {}).items():
        groups.append((f'cluster {service}', publisher, service, values))
    for node, services in (part.get('nodes') or {}).items():
        for service, values in (services if isinstance(services, dict) else {}).items():
            groups.append((f'node {node} {service}', node, service, values))
    for unknown in set(part) - {'enterprise', 'cluster', 'nodes'}:
        plan.problems.append(f'parameters {unknown}: there is no such group. Groups: enterprise, cluster, nodes.')
    for where, node, service, values in groups:
        if not isinstance(values, dict):
            plan.problems.append(f'parameters {where}: must have names and values.')
            continue
        wanted = _resolved(values, f'parameters {where}', plan)
        path = f'service-parameters/{quote(node)}/{quote(service)}/' if service else 'enterprise-parameters/'
        params = {p.name: p for p in (BY_KEY[service].params if service in BY_KEY else ENTERPRISE_PARAMS)}
        row = next((one for one in _nodes() if one.name == node), None)
        before = parameter_values.in_force(service, row) if not service or service in BY_KEY else {}
        after = {
            name: params[name].default if value is None and name in params else value for name, value in wanted.items()
        }
        changes = _changes(before, after)
        if changes:
            body = {one: wanted[one] for one, _, _ in changes}
            yield _Write(actor, Step('change', 'parameters', where, changes), 'PATCH', path, body)


def _parameters() -> dict[str, Any]:
    """Every parameter that differs from its default."""
    cluster: dict[str, Any] = {}
    nodes: dict[str, Any] = {}
    for service in SERVICES:
        shared = parameter_values.in_force(service.key, None)
        found = {p.name: shared[p.name] for p in service.params if p.scope == 'cluster' and shared[p.name] != p.default}
        if found:
            cluster[service.key] = found
        own = [param for param in service.params if param.scope == 'node']
        for node in _nodes() if own else ():
            values = parameter_values.in_force(service.key, node)
            if differing := {p.name: values[p.name] for p in own if values[p.name] != p.default}:
                nodes.setdefault(node.name, {})[service.key] = differing
    enterprise = parameter_values.in_force('', None)
    differing = {p.name: enterprise[p.name] for p in ENTERPRISE_PARAMS if enterprise[p.name] != p.default}
    return {'enterprise': differing, 'cluster': cluster, 'nodes': nodes}


def _nodes() -> list[Any]:
    from django.apps import apps

    return list(apps.get_model('system', 'Node').objects.order_by('name'))


def _resolved(values: Mapping[str, Any], where: str, plan: Plan) -> dict[str, Any]:
    """``values`` with references to secrets replaced."""
    result = {}
    for name, value in values.items():
        if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in REFERENCES:
            kind, target = next(iter(value.items()))
            try:
                value = os.environ[str(target)] if kind == 'from_env' else Path(str(target)).read_text().rstrip('\n')
            except KeyError:
                plan.problems.append(f'{where} {name}: the environment has no variable {target}.')
                continue
            except (OSError, UnicodeDecodeError) as error:
                plan.problems.append(f'{where} {name}: {target} cannot be read: {error}.')
                continue
        result[name] = value
    return result


def _changes(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    return tuple((name, before.get(name), value) for name, value in wanted.items() if before.get(name) != value)


def _key(page: Page, row: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells an object apart."""
    return tuple(str(row[name]) for name in key_names(page))


def _folded(key: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.lower() for part in key)


def _name(key: tuple[str, ...]) -> str:
    """A key as the plan shows it."""
    return ', '.join(key)


def _path(page: Page, row: Mapping[str, Any]) -> str:
    """Where REST has an object."""
    return f'{page.name}/{quote(str(row[page.model._meta.pk.name]), safe="")}/'


def _plain(page: Page | SettingsPage, row: Mapping[str, Any]) -> dict[str, Any]:
    """The written fields of one object as REST shows them."""
    return {name: row[name] for name in forms.editable_names(page) if name in row}


def _read(actor: Actor, page: BasePage) -> dict[str, Any]:
    answer = local_api.call(actor, 'GET', f'/api/v1/{page.name}/')
    return dict(answer.data)


def _rows(actor: Actor, page: Page) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while True:
        query = {'limit': PAGE_SIZE, 'offset': len(rows)}
        found = local_api.call(actor, 'GET', f'/api/v1/{page.name}/', query=query).data['results']
        rows += found
        if len(found) < PAGE_SIZE:
            return sorted(rows, key=lambda row: _key(page, row))
