"""Generated from the registry: every page and every part of it for every role; add, edit, copy, delete, history."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils.html import escape

from impadmin.console import forms, registry
from impadmin.console.access import grants, may, may_write
from impadmin.console.models import AuditEntry
from impadmin.console.page import BasePage, Page, ParameterPage, SettingsPage
from impadmin.console.roles import BUILT_IN
from tests.fixtures.data import CUSTOM_PERMISSIONS, CUSTOM_ROLE
from tests.pages import payload

PAGES = registry.pages()
GRANTS = {name: grants(allowed) for name, (_, allowed) in BUILT_IN.items()} | {CUSTOM_ROLE: grants(CUSTOM_PERMISSIONS)}
LISTS = payload.lists()
ADDABLE = [page for page in LISTS if 'add' in page.verbs]
SETTINGS = payload.settings_pages()


def named(page: BasePage) -> str:
    """Test id."""
    return page.name


@pytest.mark.parametrize('page', PAGES, ids=named)
def test_opens_for_those_who_may_read(page: BasePage, admin_client: Any) -> None:
    for role in (*GRANTS, ''):
        answer = admin_client(role).get(registry.page_url(page))
        if not role:
            assert answer.status_code == 302
            assert answer['Location'].startswith('/login/')
        elif may(GRANTS[role], page):
            assert answer.status_code == 200, (role, payload.problems(answer))
            text = answer.content.decode()
            assert f'<h1>{page.title}' in text or str(page.title) in text
            assert ' style="' not in text
            assert 'lang="en"' in text
        else:
            assert answer.status_code == 403, role


PARTS = {
    'do/anything': 'do/anything', 'add': 'add', 'delete-selected': 'delete', '1/delete': 'delete', '1/copy': 'add',
    '1/do/anything': 'do/anything', 'bulk-edit': 'change',
}  # fmt: skip


@pytest.mark.parametrize('page', PAGES, ids=named)
def test_writing_parts_are_refused_without_the_right(page: BasePage, admin_client: Any) -> None:
    """What is sent to them; that they are not shown is asked of every role in tests/security/test_access.py."""
    for role, granted in GRANTS.items():
        client = admin_client(role)
        before = AuditEntry.objects.count()
        verbs = ('get', 'post') if role in ('read_only', CUSTOM_ROLE) else ('post',)
        for part, action in PARTS.items():
            here = isinstance(page, Page) or (part == 'do/anything' and not isinstance(page, ParameterPage))
            for verb in verbs if here and not may(granted, page, action) else ():
                assert getattr(client, verb)(f'{registry.page_url(page)}{part}/').status_code == 403, (role, part)
        if not may_write(granted, page):
            assert client.post(registry.page_url(page), {}).status_code in (403, 405), role
            if isinstance(page, Page):
                assert client.post(f'{registry.page_url(page)}import/').status_code == 403, role
        assert AuditEntry.objects.count() == before


@pytest.mark.parametrize('page', ADDABLE, ids=named)
def test_add_edit_history_delete(page: Page, admin_client: Any) -> None:
    client = admin_client('administrator')
    obj = payload.create(client, page, 1)
    url = registry.page_url(page, 'edit', obj.pk)
    created = AuditEntry.objects.get(object_type=page.model._meta.label, object_id=str(obj.pk), action='create')
    assert created.actor == 'test-administrator'
    assert created.channel == 'browser'
    assert created.after
    assert str(obj) in client.get(registry.page_url(page)).content.decode()
    shown = client.get(url)
    assert shown.status_code == 200
    if 'edit' in page.verbs:
        change_one_field(client, page, obj, url)
    history = client.get(registry.page_url(page, 'history', obj.pk))
    assert history.status_code == 200
    assert 'test-administrator' in history.content.decode()
    if 'delete' in page.verbs:
        asked = client.get(registry.page_url(page, 'delete', obj.pk))
        assert asked.status_code == 200
        assert page.model._default_manager.filter(pk=obj.pk).exists(), 'asking deletes nothing'
        answer = client.post(registry.page_url(page, 'delete', obj.pk), {'confirmed': '1'})
        assert answer.status_code == 302, payload.problems(answer)
        assert not page.model._default_manager.filter(pk=obj.pk).exists()
        assert AuditEntry.objects.filter(object_type=page.model._meta.label, action='delete').count() == 1
        assert client.get(url).status_code == 404


def change_one_field(client: Any, page: Page, obj: Any, url: str) -> None:
    """Save the values of another sample over ``obj``, with the version the form was drawn with."""
    other = payload.sample(page, 2)
    version = client.get(url).context['form'].version
    values = {**payload.present(page, obj), **other}
    data = {**payload.encode(page, values), 'version': version}
    before = AuditEntry.objects.count()
    preview = client.post(url, {**data, 'preview': '1'})
    assert preview.status_code == 200
    assert AuditEntry.objects.count() == before, 'a preview saves nothing'
    answer = client.post(url, data)
    assert answer.status_code == 302, payload.problems(answer)
    entry = AuditEntry.objects.filter(object_id=str(obj.pk), action='update').latest('at')
    assert entry.before != entry.after
    stale = client.post(url, {**payload.encode(page, payload.present(page, obj)), 'version': version})
    assert stale.status_code == 200
    assert 'changed this in the meantime' in stale.content.decode()


@pytest.mark.parametrize('page', ADDABLE, ids=named)
def test_bad_values_are_refused_at_their_field(page: Page, admin_client: Any) -> None:
    client = admin_client('administrator')
    before = page.model._default_manager.count()
    for name, value in ((name, value) for name, values in payload.bad(page).items() for value in values):
        repeated = {f'{name}_again': value} if f'{name}_again' in page.extra else {}
        data = payload.encode(page, {**payload.sample(page, 1), name: value, **repeated})
        answer = client.post(registry.page_url(page, 'add'), data)
        assert answer.status_code == 200, (name, value)
        assert name in answer.context['form'].errors, (name, value, answer.context['form'].errors)
        text = answer.content.decode()
        assert 'aria-invalid="true"' in text or f'id="f-{name}-err"' in text
        assert f'href="#f-{name}"' in text, 'the summary links to the field'
    assert page.model._default_manager.count() == before


@pytest.mark.parametrize('page', [p for p in ADDABLE if 'copy' in p.verbs], ids=named)
def test_copy(page: Page, admin_client: Any) -> None:
    client = admin_client('administrator')
    obj = payload.create(client, page, 1)
    answer = client.get(registry.page_url(page, 'copy', obj.pk))
    assert answer.status_code == 200
    initial = answer.context['form'].initial
    for name, value in payload.present(page, obj).items():
        if name not in forms.copy_cleared(page):
            assert initial[name] == value
        else:
            assert not initial.get(name)
    count = page.model._default_manager.count()
    data = payload.encode(page, payload.sample(page, 2))
    assert client.post(registry.page_url(page, 'copy', obj.pk), data).status_code == 302
    assert page.model._default_manager.count() == count + 1


@pytest.mark.parametrize('page', [p for p in ADDABLE if 'delete' in p.verbs], ids=named)
def test_delete_selected(page: Page, admin_client: Any) -> None:
    client = admin_client('administrator')
    keep = payload.create(client, page, 1)
    gone = [payload.create(client, page, n) for n in (2, 3)]
    url = registry.page_url(page, 'delete-selected')
    asked = client.post(url, {'pk': [obj.pk for obj in gone]})
    assert asked.status_code == 200
    for obj in gone:
        assert str(obj) in asked.content.decode()
    answer = client.post(url, {'pk': [obj.pk for obj in gone], 'confirmed': '1', 'expected': '2'})
    assert answer.status_code == 302, payload.problems(answer)
    left = set(page.model._default_manager.values_list('pk', flat=True))
    assert keep.pk in left
    assert not left & {obj.pk for obj in gone}
    nothing = client.post(url, {'confirmed': '1'})
    assert nothing.status_code == 302
    assert set(page.model._default_manager.values_list('pk', flat=True)) == left


@pytest.mark.parametrize('page', SETTINGS, ids=named)
def test_settings_are_saved_and_recorded(page: SettingsPage, admin_client: Any) -> None:
    client = admin_client('administrator')
    url = registry.page_url(page)
    row = page.model._default_manager.get_or_create(pk=1)[0]
    for name in forms.editable_names(page):
        field = forms.model_field(page.model, name)
        assert field is not None
        value = field.value_from_object(row)
        if isinstance(value, bool):
            new: Any = not value
        elif isinstance(value, int):
            new = value + 1
        else:
            continue
        if payload.encode(page, {name: new}).get(name) in page.bad.get(name, ()):
            continue  # right only together with other values
        version = client.get(url).context['form'].version
        data = payload.encode(page, {**payload.present(page, row), name: new})
        answer = client.post(url, {**data, 'version': version})
        assert answer.status_code == 302, payload.problems(answer)
        row.refresh_from_db()
        assert field.value_from_object(row) == new
        entry = AuditEntry.objects.latest('pk')
        assert (entry.before[name], entry.after[name]) == (value, new)
        assert 'saved' in client.get(url).content.decode()
    assert 'test-administrator' in client.get(registry.page_url(page, 'history')).content.decode()


@pytest.mark.parametrize('page', SETTINGS, ids=named)
def test_settings_refuse_bad_values(page: SettingsPage, admin_client: Any) -> None:
    client = admin_client('administrator')
    url = registry.page_url(page)
    row = page.model._default_manager.get_or_create(pk=1)[0]
    before = payload.present(page, row)
    for name, bad in payload.bad(page).items():
        for value in bad:
            data = {**payload.encode(page, {**before, name: value}), name: str(value)}
            answer = client.post(url, {**data, 'version': client.get(url).context['form'].version})
            assert answer.status_code == 200
            assert name in answer.context['form'].errors, (name, value)
            assert escape(str(value)) in answer.content.decode(), 'the typed value is kept'
    row.refresh_from_db()
    assert payload.present(page, row) == before


@pytest.mark.parametrize('role', GRANTS)
def test_menu_shows_only_what_the_role_may_open(role: str, admin_client: Any) -> None:
    client = admin_client(role)
    for page in PAGES:
        if not may(GRANTS[role], page):
            continue
        text = client.get(registry.page_url(page)).content.decode()
        for other in registry.by_console(page.console):
            link = f'<li><a href="{registry.page_url(other)}"'
            shown = may(GRANTS[role], other) and not other.waits_for
            assert (link in text) == shown, (page.name, other.name)
