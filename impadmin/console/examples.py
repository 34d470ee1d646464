"""*Do this by API*: what a page does, as curl and Python, with the address and the values of this moment.

Secrets are placeholders. Only what the reader may do is shown.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms as django_forms
from django.db import models
from django.utils.translation import gettext

from impadmin.console import forms
from impadmin.console.access import Grants, may
from impadmin.console.api_fields import form_schema, serializer_of
from impadmin.console.page import BasePage, Command, Page, ParameterPage, SettingsPage, Text, ViewPage

MOST = 12
"""Most examples of one page."""


@dataclass(frozen=True, slots=True)
class Example:
    """One request: what it does, and how it is sent."""

    title: Text
    curl: str
    python: str


def examples(page: BasePage, obj: Any, who: Grants, origin: str, query: str = '') -> list[Example]:
    """Examples for what ``page`` shows: its list, its object ``obj``, its settings or parameters, its commands."""
    found = [
        _example(title, method, origin + path, body) for title, method, path, body in _requests(page, obj, who, query)
    ]
    return found[:MOST]


Request = tuple[Text, str, str, dict[str, Any] | None]


def _requests(page: BasePage, obj: Any, who: Grants, query: str) -> Iterator[Request]:
    root = f'/api/v1/{page.name}/'
    commands: Sequence[Command] = getattr(page, 'commands', ())
    if isinstance(page, Page):
        if obj is None:
            yield gettext('Find and list'), 'GET', root + (query or '?limit=50'), None
            if 'add' in page.verbs and may(who, page, 'add'):
                yield gettext('Add'), 'POST', root, blank(page)
        else:
            yield gettext('Read'), 'GET', f'{root}{obj.pk}/', None
            if 'edit' in page.verbs and may(who, page, 'change'):
                yield gettext('Change'), 'PATCH', f'{root}{obj.pk}/', present(page, obj)
            if 'delete' in page.verbs and may(who, page, 'delete'):
                yield gettext('Delete'), 'DELETE', f'{root}{obj.pk}/', None
    elif isinstance(page, SettingsPage):
        yield gettext('Read'), 'GET', root, None
        if obj is not None and may(who, page, 'change'):
            yield gettext('Change'), 'PATCH', root, present(page, obj)
    elif isinstance(page, ParameterPage) or (isinstance(page, ViewPage) and page.api is not None):
        yield gettext('Read'), 'GET', root, None
    for command in commands:
        one = isinstance(page, Page) and command.scope == 'object'
        if may(who, page, f'do/{command.name}') and one == (isinstance(page, Page) and obj is not None):
            path = f'{root}{obj.pk}/{command.name}/' if one else f'{root}{command.name}/'
            yield command.label, 'POST', path, asked(command)


def present(page: Page | SettingsPage, obj: Any) -> dict[str, Any]:
    """The saved values of an object, as a client would send them."""
    shown = serializer_of(page)(obj).data
    return {name: shown[name] for name in forms.editable_names(page) if name in shown}


def blank(page: Page) -> dict[str, Any]:
    """What an object needs: defaults, and placeholders for the rest. Optional fields without a default are left out."""
    found: dict[str, Any] = {}
    for name in forms.editable_names(page):
        declared = forms.model_field(page.model, name)
        if isinstance(declared, models.Field) and declared.has_default() and not callable(declared.default):
            found[name] = declared.default
        elif isinstance(declared, models.Field) and not declared.blank:
            found[name] = f'<{declared.verbose_name}>'
    for name, factory in page.extra.items():
        field = factory(None)
        if field.required or isinstance(field.widget, django_forms.PasswordInput):
            found[name] = f'<{field.label or name}>'
    return found


def asked(command: Command) -> dict[str, Any]:
    """The body of a command: placeholders, or the first of the choices."""
    found: dict[str, Any] = {'ids': [1, 2]} if command.scope == 'selection' else {}
    for name, field in (command.form.base_fields if command.form is not None else {}).items():
        shape = form_schema(field)
        if field.required:
            found[name] = next(iter(shape.get('enum', ())), f'<{field.label or name}>')
    return found


def _example(title: Text, method: str, url: str, body: dict[str, Any] | None) -> Example:
    curl = ['curl', *(['-X', method] if method != 'GET' else []), '-H', '"Authorization: Bearer $TOKEN"']
    lines = ['import requests', '', f'answer = requests.{method.lower()}(', f'    {url!r},']
    headers = '{"Authorization": f"Bearer {token}"}'
    if method != 'GET':
        curl += ['-H', '"Idempotency-Key: $(uuidgen)"']
        headers = '{"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}'
        lines.insert(1, 'import uuid')
        lines[:2] = ['import uuid', 'import requests']
    lines.append(f'    headers={headers},')
    if body is not None:
        text = json.dumps(body, ensure_ascii=False, indent=2, default=str)
        curl += ['-H', "'Content-Type: application/json'", '-d', shlex.quote(text)]
        lines.append(f'    json={_literal(body)},')
    lines += [')', 'answer.raise_for_status()', *(['print(answer.json())'] if method != 'DELETE' else [])]
    return Example(title, ' '.join([*curl, shlex.quote(url)]), '\n'.join(lines))


def _literal(body: dict[str, Any]) -> str:
    inner = ''.join(
        f'        {name!r}: {value!r},\n' for name, value in json.loads(json.dumps(body, default=str)).items()
    )
    return '{\n' + inner + '    }' if inner else '{}'
