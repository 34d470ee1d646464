"""Every door that changes something says before what it would do, and saying it changes nothing. From the registry."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django import forms as django_forms
from django.core.files.uploadedfile import SimpleUploadedFile

from impadmin.console import audit, bulkwork, forms, foureyes, jobs, registry
from impadmin.console.actions import SYSTEM, Preview
from impadmin.console.models import ApprovalRequest, ApprovalSettings, AuditEntry
from impadmin.console.page import BasePage, Command, Page, ParameterPage, SettingsPage
from tests.pages import payload
from tests.pages.test_preview import everything

ADDABLE = [page for page in payload.lists() if 'add' in page.verbs]
COMMANDED = [page for page in registry.pages() if getattr(page, 'commands', ())]
NOTHING_SAVED = 'Nothing has been saved'


def named(page: BasePage) -> str:
    return page.name


class Doors(HTMLParser):
    """The forms of a page, and what is sent by each of their buttons."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: dict[str, str] = {}
        self.confirming: set[str] = set()
        self.buttons: list[tuple[str, str, bool]] = []
        self.open = ''
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Forms by id, or by number."""
        given = {name: value or '' for name, value in attributes}
        if tag == 'form':
            self.open = given.get('id') or str(len(self.forms))
            self.forms[self.open] = given.get('action', '')
        elif tag == 'input' and given.get('name') == 'confirmed':
            self.confirming.add(self.open)
        elif tag == 'button' and given.get('type', 'submit') == 'submit':
            place = given.get('form', self.open)
            self.buttons.append((place, given.get('formaction', ''), given.get('name') == 'confirmed'))

    def handle_endtag(self, tag: str) -> None:
        """Buttons behind a form belong to none."""
        self.open = '' if tag == 'form' else self.open

    def commands(self) -> Iterator[tuple[str, bool]]:
        """(URL, whether it runs at once) of every button that sends a command."""
        for place, action, confirmed in self.buttons:
            url = action or self.forms.get(place, '')
            if '/do/' in url:
                yield url.partition('?')[0], confirmed or place in self.confirming


def buttons_offer_previews(page: BasePage, text: str) -> None:
    """What runs at once has another button that asks first, unless the command is declared harmless."""
    found = list(Doors(text).commands())
    harmless = {f'/do/{one.name}/' for one in getattr(page, 'commands', ()) if one.at_once}
    for url, confirmed in found:
        if confirmed and not any(url.endswith(end) for end in harmless):
            assert (url, False) in found, f'{url} runs without a preview'


def one_object(page: Page, client: Any) -> Any:
    """An object to act on: an added one, or one that the system makes."""
    if 'add' in page.verbs:
        return payload.create(client, page, 1)
    if page.name == 'job-scheduler':
        return jobs.submit(SYSTEM, 'export_contacts', {}, 'One', 'hold')
    if page.model is ApprovalRequest:
        ApprovalSettings.objects.get_or_create(pk=1)
        return foureyes.waiting(SYSTEM, 'domains', 'delete', {'do': 'delete', 'rows': []}, Preview()).request
    if page.model is AuditEntry:
        settings = registry.page('messaging-settings')
        client.post(registry.page_url(settings), {'im_enabled': 'on'})
        return AuditEntry.objects.filter(action='update').latest('pk')
    return page.model._default_manager.first()


def sent(command: Command) -> dict[str, Any]:
    """Something for every field of a command."""
    found: dict[str, Any] = {}
    for name, field in (command.form() if command.form is not None else django_forms.Form()).fields.items():
        choices = [key for key, _ in getattr(field, 'choices', ()) if str(key)]
        if isinstance(field, django_forms.FileField):
            found[name] = SimpleUploadedFile('welcome.txt', b'Welcome', 'text/plain')
        elif choices and not isinstance(field, django_forms.MultipleChoiceField):
            found[name] = str(choices[0])
        elif isinstance(field, django_forms.BooleanField):
            found[name] = 'on'
        elif isinstance(field, django_forms.DateTimeField):
            found[name] = '2040-01-01T10:00:00'
        elif field.required:
            found[name] = 'first.example'
    return found


@pytest.mark.parametrize('page', COMMANDED, ids=named)
def test_commands(page: BasePage, admin_client: Any, make_user: Any) -> None:
    """Their dialog says what they would do, or why they are refused; their buttons lead there."""
    make_user('alice', node=None)
    client = admin_client('administrator')
    obj = one_object(page, client) if isinstance(page, Page) else None
    buttons_offer_previews(page, client.get(registry.page_url(page)).content.decode())
    if obj is not None:
        buttons_offer_previews(page, client.get(registry.page_url(page, 'edit', obj.pk)).content.decode())
    before = everything()
    for command in page.commands:  # type: ignore[attr-defined]
        if command.scope != 'page' and obj is None:
            continue
        own = obj.pk if command.scope == 'object' else None
        url = registry.page_url(page, f'do/{command.name}', own)
        values = {**sent(command), **({'pk': [obj.pk]} if command.scope == 'selection' else {})}
        for extra in ({'preview': '1'}, *([] if command.at_once or (command.form and not values) else [{}])):
            answer = client.post(url, {**values, **extra})
            assert answer.status_code == 200, (url, answer)
            told = answer.context['preview'], answer.context['problem'], answer.context['problems']
            assert any(told), (url, 'says neither what it would do nor why not')
            assert not answer.context['preview'] or NOTHING_SAVED in answer.content.decode()
        if not command.at_once and command.scope != 'selection':
            assert client.get(url).status_code == 200
    assert everything() == before


@pytest.mark.parametrize('page', ADDABLE, ids=named)
def test_objects(page: Page, admin_client: Any) -> None:
    """Add, Save, Delete, Delete Selected, Bulk Edit: each form has the button, each preview its verdicts."""
    client = admin_client('administrator')
    made = [payload.create(client, page, n) for n in (1, 2)]
    before = everything()
    pages = [(registry.page_url(page, 'add'), payload.encode(page, payload.sample(page, 3)))]
    if 'edit' in page.verbs:
        values = {**payload.present(page, made[0]), **payload.sample(page, 4)}
        pages.append((registry.page_url(page, 'edit', made[0].pk), payload.encode(page, values)))
    for url, data in pages:
        assert 'name="preview"' in client.get(url).content.decode(), url
        answer = client.post(url, {**data, 'preview': '1'})
        assert answer.context['preview'].changes, payload.problems(answer)
        assert NOTHING_SAVED in answer.content.decode()
    chosen = {'pk': [obj.pk for obj in made]}
    if 'delete' in page.verbs:
        for answer in (
            client.get(registry.page_url(page, 'delete', made[0].pk)),
            client.post(registry.page_url(page, 'delete-selected'), chosen),
        ):
            found = answer.context['impact'].verdicts
            assert {(one.name, one.action, one.problems) for one in found} <= {(str(o), 'delete', ()) for o in made}
            assert found
    if names := bulkwork.bulk_names(page):
        name = names[0]
        value = payload.encode(page, {name: payload.present(page, made[0])[name]})
        answer = client.post(registry.page_url(page, 'bulk-edit'), {**chosen, **value, 'set': name, 'preview': '1'})
        assert len(answer.context['preview'].verdicts) == 2, payload.problems(answer)
    assert everything() == before


@pytest.mark.parametrize(
    'page', [p for p in registry.pages() if isinstance(p, SettingsPage | ParameterPage)], ids=named
)
def test_settings(page: SettingsPage | ParameterPage, admin_client: Any) -> None:
    client = admin_client('administrator')
    url = registry.page_url(page)
    if isinstance(page, ParameterPage):
        url += '?service=xcp_router' if page.services else ''
        shown = client.get(url)
        initial, version = shown.context['form'].initial, shown.context['version']
        data = {name: 'on' if value is True else value for name, value in initial.items() if value is not False}
    else:
        shown = client.get(url)
        row: Any = page.model._default_manager.get_or_create(pk=1)[0]
        data, version = payload.encode(page, payload.present(page, row)), audit.digest(row)
        if not forms.editable_names(page):
            return
    assert 'name="preview"' in shown.content.decode()
    before = everything()
    answer = client.post(url, {**data, 'version': version, 'preview': '1'})
    assert NOTHING_SAVED in answer.content.decode()
    assert answer.context['preview'] is not None, payload.problems(answer)
    assert everything() == before
