"""Page declarations. One declaration gives list, form, REST, permissions, audit, restart notice and their tests.

The field list is written once, on the model (label, help, limits, choices); a declaration only names fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from django import forms
from django.db import models
from django.utils.functional import Promise

from impadmin.console.access import Grants, Right
from impadmin.console.actions import Actor

Text = str | Promise
Verb = Literal['add', 'edit', 'copy', 'delete']


@dataclass(frozen=True, slots=True)
class Column:
    """A list column that is more than a plain model field. Of a field it has what is not given here.

    name      key of the column; ``value`` gives the cell for one object (default: the attribute of that name)
    order_by  model expression to sort by; '' means the column cannot be sorted, unless it is a field
    kind      how the cell is shown: text, number, bytes (a size, with its unit), time, bool, state (value is a
              (mark, word) pair with mark ok/warn/bad/busy/off), link (value is a (url, text) pair)
    hint      what a number says when it is pointed at, in words; another column must say it too, for everybody else
    """

    name: str
    label: Text
    value: Callable[[Any], Any] | None = None
    order_by: str = ''
    kind: Literal['', 'text', 'number', 'bytes', 'time', 'bool', 'state', 'link'] = ''
    default: bool = True
    hint: Callable[[Any], Text] | None = None


@dataclass(frozen=True, slots=True)
class Fieldset:
    """A titled group of fields on a form."""

    title: Text
    fields: tuple[str, ...]
    help: Text = ''


@dataclass(frozen=True, slots=True)
class Help:
    """What the help page says beyond ``intro``, the fields and the restart rules, which it takes from elsewhere.

    when    when somebody needs this page; ``effect``: what a change does in the running service
    guide   lines of the administration guide, e.g. '5574-5589'; '' for pages the product does not have
    """

    when: Text
    effect: Text
    guide: str = ''


@dataclass(frozen=True, slots=True)
class Result:
    """What a command did: message for the user, and the URL to go to ('' stays).

    changed  (before, after) by names of the form's fields, or by its choices: what it changed where that is no object
    impact   (text, how many or None) of what users will notice; refused: (name, why) of what was left out
    """

    message: Text = ''
    url: str = ''
    data: Mapping[str, Any] = field(default_factory=dict)
    changed: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    impact: Sequence[tuple[Text, int | None]] = ()
    refused: Sequence[tuple[Text, Text]] = ()
    shown_once: Mapping[str, str] = field(default_factory=dict)
    """Secrets by name: in the answer to this request and nowhere else."""


@dataclass(frozen=True, slots=True)
class Command:
    """A button beyond save and delete; also ``POST /api/v1/PAGE[/PK]/NAME/``.

    The button opens a dialog with what it asks and what it would do. A page's own form is sent to ``do/NAME/``: without
    ``confirmed`` it opens the same dialog, see templates/console/command_savebar.html.

    run      ``run(actor, objects, data)``; objects is [] for scope 'page', one object for 'object', several for
             'selection' (REST: ids in the body). Raises ValidationError (by field) or Refused.
    form     fields asked before running (REST: request body), or None
    confirm  ``confirm(objects) -> text`` naming the consequence
    at_once  the button asks nothing: it changes nothing that anybody else notices (a test, a download, a tick)
    consents  boxes of the form that are drawn only when ``run`` has raised a ValidationError at them
    panel    template shown in the dialog, given its ``form``
    when     ``when(object) -> reason it cannot be used now, or ''``; the button stays and says why
    in_panel  the page's panel has the button, with what it is about; it is not in the head of the page
    touches  ``touches(objects, data) -> how many users notice``; default: those of the page's objects
    """

    name: str
    label: Text
    run: Callable[[Actor, Sequence[Any], Mapping[str, Any]], Result]
    scope: Literal['page', 'object', 'selection'] = 'object'
    form: type[forms.Form] | None = None
    confirm: Callable[[Sequence[Any]], Text] | None = None
    when: Callable[[Any], Text] | None = None
    danger: bool = False
    at_once: bool = False
    in_panel: bool = False
    consents: tuple[str, ...] = ()
    panel: str = ''
    touches: Callable[[Sequence[Any], Mapping[str, Any]], int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePage:
    """What every page has.

    name     unique slug: REST resource ``/api/v1/NAME/`` and last part of the URL
    console  key in ``navigation.CONSOLES`` (admin, ucm, serviceability); area: URL part and folder (presence, ...)
    menu     the product's menu path in English, parts separated by `` > ``, each part translated by itself
    right    whose rights decide (see access.py)
    intro    one sentence: what the page is for
    help     the rest of its help page
    related  names of related pages, at most three
    touches  ``touches(objects) -> how many users notice a change of them`` (see rehearsal.py), for the impact preview;
             default: everybody whom the nodes serve when the page configures the engine, else nobody
    works_through  keys of the services that do the page's work: it shows their state, beside those that must restart
             for its values, which it knows by itself (services.py)
    order    place in its menu (menus keep the order of first appearance otherwise)
    waits_for  what must come before the values do anything. Such a page is in no menu, search or export, and says so
               at its top; a service claims it by taking this line away
    """

    name: str
    console: str
    area: str
    menu: str
    right: Right
    title: Text = ''
    intro: Text = ''
    help: Help | None = None
    related: tuple[str, ...] = ()
    order: int = 100
    touches: Callable[[Sequence[Any]], int] | None = None
    waits_for: Text = ''
    works_through: tuple[str, ...] = ()

    def actions(self) -> tuple[str, ...]:
        """What a permission can name on this page: view, add, change, delete, do/COMMAND."""
        verbs = getattr(self, 'verbs', () if isinstance(self, ViewPage) else ('edit',))
        names = [name for name, verb in (('add', 'add'), ('change', 'edit'), ('delete', 'delete')) if verb in verbs]
        return ('view', *names, *(f'do/{command.name}' for command in getattr(self, 'commands', ())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(BasePage):
    """Find and List, Add, Edit, Copy, Delete of one model.

    title      default: what the model calls its objects
    columns    model field names or Column objects; the first links to the object
    ordering   default: by the first column, where it is a field of the model
    find       model fields offered in the search sentence
    queryset   base queryset (annotations, select_related); default ``model.objects.all()``
    seen_by    ``seen_by(queryset, grants)``: the objects that somebody sees, where opening the page does not mean all
    about      ``about(object) -> menu path`` of the page that an object tells of: what is done to it is told there
    create/update/delete  the page's own ``do_*`` writers where the generic ones do not suffice; same signatures:
               ``create(actor, values) -> object``, ``update(actor, object, values)``, ``delete(actor, object)``
    delete_many  ``delete_many(actor, objects)`` in place of ``delete``, when ``undeletable`` looks at no other row
    apart      ``update`` changes no other row's editable fields: rows of a bulk edit may be read before the first is
               written (generic writers are so)
    rules      ``rule(object, before) -> None`` raising ValidationError by field; ``before`` is None on add
    extra      form fields that are no model fields (e.g. password): name -> factory(bound object or None) -> Field;
               their values reach create/update in ``values``; never shown in REST output
    consents   boxes of ``extra`` that are drawn only when ``create`` or ``update`` has raised a ValidationError at them
    choices    ``choices[FIELD](object or None) -> queryset``: what the form offers for a reference; REST may name
               another object, and the rules and writers say why not
    locked     ``locked(object) -> reason the object is read-only, or ''``; undeletable likewise
    copy_clear fields emptied when copying, besides those that are unique
    sample     ``sample(n) -> dict`` of valid values for the generated tests, of fields without a default
    bad        field -> values to refuse, besides those that the model refuses (too long, empty, unknown choices,
               names that nothing has, numbers out of range): these are tried anyhow
    tabs       saved searches: (slug, label, queryset filter)
    personal   model fields with personal data; the history shreds them by rule (shredding.py)
    derived    objects that the system makes by itself: they are no part of the configuration as code
    impact     ``impact(before, after) -> [(text, number or None)]`` for the impact preview; ``after`` None: it goes
    """

    model: type[models.Model]
    columns: tuple[str | Column, ...]
    find: tuple[str, ...]
    fieldsets: tuple[Fieldset, ...] = ()
    verbs: tuple[Verb, ...] = ('add', 'edit', 'copy', 'delete')
    queryset: Callable[[], models.QuerySet[Any]] | None = None
    seen_by: Callable[[models.QuerySet[Any], Grants], models.QuerySet[Any]] | None = None
    about: Callable[[Any], str] | None = None
    create: Callable[..., Any] | None = None
    update: Callable[..., Any] | None = None
    delete: Callable[..., Any] | None = None
    delete_many: Callable[..., Any] | None = None
    apart: bool = False
    derived: models.Q | None = None
    impact: Callable[[Any, Any], list[tuple[Text, int | None]]] | None = None
    rules: tuple[Callable[[Any, Any], None], ...] = ()
    extra: Mapping[str, Callable[[Any], forms.Field]] = field(default_factory=dict)
    consents: tuple[str, ...] = ()
    choices: Mapping[str, Callable[[Any], models.QuerySet[Any]]] = field(default_factory=dict)
    read_only: tuple[str, ...] = ()
    """Model fields shown on the form and in REST but never written."""
    fixed: Callable[[Any], Sequence[str]] | None = None
    """``fixed(object) -> its fields`` that the form shows and does not write; a rule refuses them to everybody else."""
    locked: Callable[[Any], Text] | None = None
    undeletable: Callable[[Any], Text] | None = None
    copy_clear: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()
    sample: Callable[[int], dict[str, Any]] | None = None
    bad: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    tabs: tuple[tuple[str, Text, models.Q], ...] = ()
    ordering: tuple[str, ...] = ()
    configures: bool = False
    """True when saving changes the engine's configuration (a new generation is compiled in the same transaction)."""
    panel: str = ''
    """Template shown under the form of one object (facts, members), given ``object``."""
    panel_live: str = ''
    """What makes the panel ask for itself again, as ``data-live`` of static/live.js takes it, e.g. 'node:*'. Such a
    panel tells what is going on now, so it stands above the form."""
    search: tuple[str, ...] = ()
    """Model fields the console-wide search looks in; () leaves the page's objects out of it."""
    bulk: tuple[str, ...] | None = None
    """Written fields that Bulk Edit offers; None: all but those that tell objects apart (unique, ``copy_clear``)."""
    key: tuple[str, ...] = ()
    """Written fields that tell which object a row of an imported file is about; (): the first unique field."""
    imports: tuple[Verb, ...] = ('add', 'edit')
    """What rows of a file may do; leave out 'add' when adding shows something that is shown only once."""
    detail: str = ''
    """Template shown instead of the form of one object, given ``object``, ``page`` and ``groups``."""
    files: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)
    """Downloads that need the right to read: name -> ``view(request, object or None)``. URL ``PK/file/NAME/`` of one
    object, ``file/NAME/`` of the page, below the page's path and its REST path."""

    def __post_init__(self) -> None:
        """Title and order where they are not given."""
        if not self.title:
            object.__setattr__(self, 'title', self.model._meta.verbose_name_plural)
        first = self.columns[0] if self.columns else None
        if not self.ordering and first in {one.name for one in self.model._meta.concrete_fields if not one.is_relation}:
            object.__setattr__(self, 'ordering', (first,))


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsPage(BasePage):
    """A form on a one-row model (id 1). Nullable integer fields are shown with a *No Limit* box."""

    model: type[models.Model]
    fieldsets: tuple[Fieldset, ...]
    rules: tuple[Callable[[Any, Any], None], ...] = ()
    update: Callable[..., Any] | None = None
    commands: tuple[Command, ...] = ()
    bad: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    configures: bool = True
    impact: Callable[[Any, Any], list[tuple[Text, int]]] | None = None
    """``impact(before, after) -> [(text, number of users touched)]`` for the impact preview."""
    warning: Callable[[Any], Text] | None = None
    """``warning(row) -> what the saved values break, or ''``; it stands at the top of the page."""
    panel: str = ''


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterPage(BasePage):
    """Generated from Param tuples: choose server and service, then edit. ``services`` False: enterprise parameters."""

    services: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPage(BasePage):
    """A page with its own view (dashboard, control center, topology, notifications, reports).

    view    Django view ``view(request, page)``; may handle POST through commands
    api     ``api(request) -> JSON data`` for ``GET /api/v1/NAME/``; None: no REST resource
    """

    view: Callable[..., Any]
    api: Callable[..., Any] | None = None
    commands: tuple[Command, ...] = ()
