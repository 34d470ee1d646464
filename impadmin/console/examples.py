"""*Do this by API*: what a page does, as curl and Python, with the address and the values of this moment.

Of a form these are the values that stand in it, typed or saved. Secrets and files are placeholders. Only what the
reader may do is shown.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django import forms as django_forms
from django.db import models
from django.utils.translation import get_language, gettext

from impadmin.console import audit, forms, stale
from impadmin.console.access import Grants, may
from impadmin.console.page import BasePage, Command, Page, ParameterPage, SettingsPage, Text, ViewPage
from impadmin.console.parameterview import Target

MOST = 12
"""Most examples of one page."""


class File(str):
    """The name of a file to send."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows: an object, a form over it (or over a new one), the parameters of a service on a node."""

    obj: Any = None
    form: forms.PageForm | None = None
    target: Target | None = None
    parameters: django_forms.Form | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One request: what it does, and how it is sent."""

    title: Text
    curl: str
    python: str


def examples(page: BasePage, shown: Shown, who: Grants, origin: str) -> list[Example]:
    """Examples for what ``page`` shows: its list, its object, its settings or parameters, its commands."""
    found = [_example(title, method, origin + path, body) for title, method, path, body in _requests(page, shown, who)]
    return found[:MOST]


Request = tuple[Text, str, str, dict[str, Any] | None]


def _requests(page: BasePage, shown: Shown, who: Grants) -> Iterator[Request]:
    root, obj = f'/api/v1/{page.name}/', shown.obj
    if isinstance(page, Page):
        if obj is None:
            yield gettext('Find and list'), 'GET', f'{root}?limit=50', None
            if 'add' in page.verbs and may(who, page, 'add'):
                yield gettext('Add'), 'POST', root, values_of(page, shown.form) if shown.form else _of_new(page)
        else:
            yield gettext('Read'), 'GET', f'{root}{obj.pk}/', None
            if 'edit' in page.verbs and may(who, page, 'change'):
                form = shown.form or forms.make(page, obj)
                yield gettext('Change'), 'PATCH', f'{root}{obj.pk}/', values_of(page, form)
            if 'delete' in page.verbs and may(who, page, 'delete'):
                yield gettext('Delete'), 'DELETE', f'{root}{obj.pk}/', None
    elif isinstance(page, SettingsPage):
        yield gettext('Read'), 'GET', root, None
        if obj is not None and may(who, page, 'change'):
            yield gettext('Change'), 'PATCH', root, values_of(page, shown.form or forms.make(page, obj))
    elif isinstance(page, ParameterPage):
        target = shown.target
        path = f'{root}{quote(target.node.name)}/{target.service}/' if target and target.service else root
        yield gettext('Read'), 'GET', path, None
        if shown.parameters is not None and may(who, page, 'change'):
            yield gettext('Change'), 'PATCH', path, _present(shown.parameters)
    elif isinstance(page, ViewPage) and page.api is not None:
        yield gettext('Read'), 'GET', root, None
    commands: Sequence[Command] = getattr(page, 'commands', ())
    for command in commands:
        one = isinstance(page, Page) and command.scope == 'object'
        if may(who, page, f'do/{command.name}') and one == (isinstance(page, Page) and obj is not None):
            path = f'{root}{obj.pk}/{command.name}/' if one else f'{root}{command.name}/'
            yield command.label, 'POST', path, asked(command)


_new: dict[tuple[str, int], tuple[Page, dict[str, Any]]] = {}


def _of_new(page: Page) -> dict[str, Any]:
    """The values in the form of a new object, kept in each language: every list shows them."""
    key = get_language() or 'en', id(page)
    if key not in _new:
        _new[key] = page, values_of(page, forms.make(page))
    return _new[key][1]


def _present(form: django_forms.Form) -> dict[str, Any]:
    """The values in a form as Python values: what is not valid as it was typed, before typing those of the page."""
    return stale.typed(form) if form.is_bound else {bound.name: stale.plain(bound.initial) for bound in form}


def values_of(page: Page | SettingsPage, form: forms.PageForm) -> dict[str, Any]:
    """The values in a page's form as a client would send them. On add, what may be left out and is empty is left out,
    and what must be there is a placeholder."""
    present, adding = _present(form), form.obj is None
    found: dict[str, Any] = {}
    for name, field in form.fields.items():
        value = present[name]
        empty = value in (None, '', [])
        if isinstance(field, django_forms.FileField):
            found[name] = File('example.csv')
        elif name in form.errors:
            found[name] = value
        elif name in getattr(page, 'extra', {}):
            secret = isinstance(field.widget, django_forms.PasswordInput) or name in audit.SECRET
            if not empty or field.required or (secret and adding):
                found[name] = f'<{field.label or name}>' if secret or empty else value
        elif adding and empty:
            if field.required:
                found[name] = f'<{field.label or name}>'
        else:
            found[name] = _natural(forms.model_field(page.model, name), value)
    return found


def _natural(field: models.Field[Any, Any] | None, value: Any) -> Any:
    """A relation by its natural name, as REST shows it."""
    if isinstance(field, models.ManyToManyField) and isinstance(value, list):
        return [_natural_name(field, one) for one in value]
    if isinstance(field, models.ForeignKey):
        return _natural_name(field, value)
    return value


def _natural_name(field: Any, value: Any) -> Any:
    key = value['pk'] if isinstance(value, dict) else value
    if key in (None, ''):
        return None
    related = field.remote_field.model
    natural = forms.natural_field(related)
    return related._default_manager.filter(pk=key).values_list(natural, flat=True).first() or key


def asked(command: Command) -> dict[str, Any]:
    """The body of a command: what it needs, as placeholders or the first of the choices."""
    found: dict[str, Any] = {'ids': [1, 2]} if command.scope == 'selection' else {}
    fields = command.form().fields if command.form is not None else {}
    needed = {name for name, field in fields.items() if field.required}
    for name, field in fields.items():
        choices = [key for key, _text in getattr(field, 'choices', ()) if str(key)]
        single = bool(choices) and not isinstance(field, django_forms.MultipleChoiceField)
        if name in needed or (not needed and single):
            example = File('example.txt') if isinstance(field, django_forms.FileField) else f'<{field.label or name}>'
            found[name] = str(choices[0]) if single else example
    return found


def _example(title: Text, method: str, url: str, body: dict[str, Any] | None) -> Example:
    curl = ['curl', *(['-X', method] if method != 'GET' else []), '-H', '"Authorization: Bearer $TOKEN"']
    lines = ['import requests', '', f'answer = requests.{method.lower()}(', f'    {url!r},']
    headers = '{"Authorization": f"Bearer {token}"}'
    if method != 'GET':
        curl += ['-H', '"Idempotency-Key: $(date +%s)-$RANDOM"']
        headers = '{"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}'
        lines[:1] = ['import uuid', 'import requests']
    lines.append(f'    headers={headers},')
    files = {name: value for name, value in (body or {}).items() if isinstance(value, File)}
    if files and body is not None:
        rest = {name: value for name, value in body.items() if name not in files and value not in (None, False)}
        curl += [part for name, value in rest.items() for part in ('-F', shlex.quote(f'{name}={value}'))]
        curl += [part for name, value in files.items() for part in ('-F', shlex.quote(f'{name}=@{value}'))]
        opened = ', '.join(f'{name!r}: open({str(value)!r}, "rb")' for name, value in files.items())
        lines += [f'    data={_literal(rest)},', f'    files={{{opened}}},']
    elif body is not None:
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
