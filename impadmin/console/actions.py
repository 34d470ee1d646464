"""The only writers. Forms, REST, jobs and commands call these; nothing else saves a configuration object.

Each one, in a single transaction: rights -> lock -> validate (model, then the page's rules) -> save -> audit entry with
before and after -> when the page configures the engine, compile and store a new generation; after commit, announce.
``dry_run=True`` does all of it, rolls back, and returns a ``Preview``.

They raise ``PermissionDenied`` (403), ``ValidationError`` by field (400) or ``Refused`` (409).

A page's own writers: ``create(actor, values) -> object``, ``update(actor, object, values)``, ``delete(actor, object)``.
They get cleaned values (relations as objects) and, on update, the locked object with its **old** values: set what
changed and save. Validation, rules, audit, generation and announcement are done around them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import models
from django.http import HttpRequest

if TYPE_CHECKING:
    from impadmin.console.page import BasePage, Command, Page, Result, SettingsPage


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: user name, role, IP address (or job/task name), channel (browser, rest, job, cli, system)."""

    name: str
    role: str
    source: str = ''
    channel: str = 'system'


SYSTEM = Actor('system', 'administrator', 'system', 'system')


class Refused(Exception):
    """The action is not possible in the present state; the text says why and what to do. REST: 409."""


class Stale(Refused):
    """Someone else changed the object since it was read. REST: 412 when the request had If-Match."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an action would do. changes: (field label, before, after); restarts: (service name, node names) that would
    newly need a restart; impact: (text, how many)."""

    changes: tuple[tuple[str, str, str], ...] = ()
    restarts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    impact: tuple[tuple[str, int], ...] = ()


def actor_of(request: HttpRequest) -> Actor:
    """The actor of a console or REST request."""
    raise NotImplementedError


def do_create(actor: Actor, page: Page, values: Mapping[str, Any], *, dry_run: bool = False) -> Any:
    """Add an object; returns it (or a Preview)."""
    raise NotImplementedError


def do_update(
    actor: Actor,
    page: Page,
    obj: models.Model,
    values: Mapping[str, Any],
    *,
    expected: str = '',
    dry_run: bool = False,
) -> Any:
    """Change an object; names that ``values`` does not have stay. ``expected``: ``audit.digest`` of what the user saw;
    another state raises Stale. Returns the saved object (or a Preview)."""
    raise NotImplementedError


def do_delete(
    actor: Actor, page: Page, objs: Sequence[models.Model], *, expected: str = '', dry_run: bool = False
) -> Any:
    """Delete all of ``objs`` or none; returns how many (or a Preview whose impact counts what goes with them)."""
    raise NotImplementedError


def do_command(
    actor: Actor, page: BasePage, command: Command, objs: Sequence[models.Model], data: Mapping[str, Any]
) -> Result:
    """Run a page's command in a transaction, with an audit entry per object. ``data``: cleaned form values."""
    raise NotImplementedError


def do_update_settings(
    actor: Actor, page: SettingsPage, values: Mapping[str, Any], *, expected: str = '', dry_run: bool = False
) -> Any:
    """Save a settings page; returns the row (or a Preview)."""
    raise NotImplementedError


def do_set_parameters(
    actor: Actor, service: str, node: models.Model | None, values: Mapping[str, Any], *, dry_run: bool = False
) -> Any:
    """Save parameters of ``service`` ('' = enterprise parameters). ``node``: whose node-scope values are set; may be
    None when ``values`` has none. A value of None goes back to the default. Returns the values now in force by name
    (or a Preview)."""
    raise NotImplementedError
