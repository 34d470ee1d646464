"""Two editors of one object: what differs is shown field by field, the choice is saved, and nobody's change is lost."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from impadmin.console import registry
from impadmin.console.page import Page, SettingsPage
from tests.pages import payload

EDITABLE = [page for page in payload.lists() if {'add', 'edit'} <= set(page.verbs)]
SETTINGS = '/admin/messaging/messaging-settings/'


def hidden(text: str) -> dict[str, str]:
    """What the form carries: the version, and the values it was drawn with."""
    found = re.findall(r'<input type="hidden" name="(version|seen)" value="([^"]*)"', text)
    return {name: unescape(value) for name, value in found}


def asked(answer: Any) -> dict[str, str]:
    """The fields the form asks about, with what is picked."""
    return {row.name: row.choice.pick for row in answer.context['choices']}


@pytest.mark.parametrize('page', EDITABLE, ids=lambda page: str(page.name))
def test_every_page_asks_field_by_field(page: Page, admin_client: Any) -> None:
    """The other one saved sample 2 while sample 3 was typed over sample 1: one field of mine is saved, the rest stays
    his; a field that only he changed is taken over without being asked."""
    client = admin_client('administrator')
    obj = payload.create(client, page, 1)
    url = registry.page_url(page, 'edit', obj.pk)
    mine = {name: value for name, value in payload.sample(page, 3).items() if name not in page.extra}
    opened = hidden(client.get(url).content.decode())
    first = payload.present(page, obj)
    other = {**first, **{k: v for k, v in payload.sample(page, 2).items() if k not in page.extra}}
    saved = client.post(url, {**payload.encode(page, other), **opened})
    assert saved.status_code == 302, payload.problems(saved)
    obj.refresh_from_db()
    between = payload.present(page, obj)
    data = payload.encode(page, {**first, **mine})
    answer = client.post(url, {**data, **opened})
    assert answer.status_code == 200
    assert 'changed this in the meantime' in answer.content.decode()
    picks = asked(answer)
    conflicts = [name for name, pick in picks.items() if not pick]
    obj.refresh_from_db()
    assert payload.present(page, obj) == between, 'nothing was saved'
    now = hidden(answer.content.decode())
    assert now != opened
    again = {**data, **now, 'apart': list(picks), **{f'pick-{name}': pick for name, pick in picks.items() if pick}}
    if conflicts:
        unanswered = client.post(url, again)
        assert 'Choose which value is saved' in unescape(unanswered.content.decode())
        assert asked(unanswered) == picks, 'the question stays'
        obj.refresh_from_db()
        assert payload.present(page, obj) == between
    chosen = {f'pick-{name}': 'theirs' for name in picks}
    theirs = client.post(url, {**again, **chosen})
    assert theirs.status_code == 302, payload.problems(theirs)
    obj.refresh_from_db()
    for name in picks:
        assert payload.present(page, obj)[name] == between[name], f'{name}: his value stays'
    if conflicts:
        name = conflicts[0]
        client.post(url, {**payload.encode(page, between), **hidden(client.get(url).content.decode())})
        last = client.post(url, {**data, **hidden(client.get(url).content.decode()), 'apart': list(picks), **chosen,
                                 f'pick-{name}': 'mine'})  # fmt: skip
        assert last.status_code == 302, payload.problems(last)
        obj.refresh_from_db()
        assert payload.encode(page, payload.present(page, obj)).get(name) == data.get(name), f'{name}: mine is saved'


def test_only_his_is_taken_over_and_only_mine_is_not_asked(admin_client: Any, make_user: Any) -> None:
    client, page = admin_client('administrator'), registry.page('end-users')
    assert isinstance(page, Page)
    user = make_user('alice', department='Sales')
    url = registry.page_url(page, 'edit', user.pk)
    opened = hidden(client.get(url).content.decode())
    values = payload.encode(page, payload.present(page, user))
    client.post(url, {**values, **opened, 'department': 'Support'})
    answer = client.post(url, {**values, **opened, 'first_name': 'Ann'})
    assert asked(answer) == {'department': 'theirs'}
    text = answer.content.decode()
    assert 'Saved by test-administrator:' in text
    now = {**values, **hidden(text), 'first_name': 'Ann', 'apart': 'department', 'pick-department': 'theirs'}
    shown = client.post(url, {**now, 'preview': '1'})
    assert shown.context['preview'].changes == (('First Name', '', 'Ann'),)
    third = client.post(url, {**values, **hidden(text), 'first_name': 'Anna', 'department': 'Support'})
    assert third.status_code == 302
    late = client.post(url, now)
    assert asked(late) == {'first_name': ''}, 'a third editor is noticed again; what was settled is not asked again'
    final = {**now, **hidden(late.content.decode()), 'apart': 'first_name', 'pick-first_name': 'mine'}
    assert client.post(url, {**final, 'department': 'Support'}).status_code == 302
    user.refresh_from_db()
    assert (user.first_name, user.department) == ('Ann', 'Support')


def test_a_form_with_an_error_does_not_forget_what_it_was_opened_with(admin_client: Any, api: Any) -> None:
    """An invalid save while somebody else saves: the redrawn form must not take his version for the one it shows."""
    browser, page = admin_client('administrator'), registry.page('standard-configuration')
    assert isinstance(page, SettingsPage)
    url = registry.page_url(page)
    opened = hidden(browser.get(url).content.decode())
    row: Any = page.model._default_manager.get()
    values = payload.encode(page, payload.present(page, row))
    api('administrator').patch('/api/v1/standard-configuration/', {'availability_sharing': False})
    answer = browser.post(url, {**values, **opened, 'max_contacts': 'x'})
    assert asked(answer) == {'availability_sharing': 'theirs'}
    row.refresh_from_db()
    assert row.availability_sharing is False


def test_parameters_ask_too(admin_client: Any, api: Any) -> None:
    browser = admin_client('administrator')
    node = registry.page('cluster-topology').model._default_manager.get()  # type: ignore[union-attr]
    url = f'/admin/system/service-parameters/?node={node.pk}&service=xcp_router'
    shown = browser.get(url)
    opened = hidden(shown.content.decode())
    form = shown.context['form']
    values = {name: 'on' if value is True else value for name, value in form.initial.items() if value is not False}
    path = '/api/v1/service-parameters/imp1/xcp_router/'
    api('administrator').patch(path, {'max_sessions_per_user': 5, 'reply_lock_timeout_s': 60})
    answer = browser.post(url, {**values, **opened, 'max_sessions_per_user': '7'})
    assert asked(answer) == {'max_sessions_per_user': '', 'reply_lock_timeout_s': 'theirs'}
    picks = {'apart': list(asked(answer)), 'pick-max_sessions_per_user': 'mine', 'pick-reply_lock_timeout_s': 'theirs'}
    now = {**values, **hidden(answer.content.decode()), **picks, 'max_sessions_per_user': '7'}
    assert browser.post(url, now).status_code == 302
    found = api('administrator').get(path).json()
    assert (found['max_sessions_per_user'], found['reply_lock_timeout_s']) == (7, 60)


@pytest.mark.parametrize('junk', ['', 'x', '[1]', '{"im_enabled": {"pk": 1}}'])
def test_what_a_form_should_not_send_is_no_error(admin_client: Any, junk: str) -> None:
    browser = admin_client('administrator')
    sent = {'version': 'old', 'seen': junk, 'apart': ['im_enabled', 'nothing'], 'pick-im_enabled': 'other'}
    assert browser.post(SETTINGS, sent).status_code == 200
    page = registry.page('domains')
    added = browser.post(registry.page_url(page, 'add'), {'name': 'a.example', 'apart': 'name', 'pick-name': 'theirs'})
    assert added.status_code == 302


@pytest.mark.parametrize('script', [True, False])
def test_two_editors_in_browsers(browser_page: Any, make_user: Any, script: bool) -> None:
    user = make_user('alice', department='Sales')
    url = registry.page_url(registry.page('end-users'), 'edit', user.pk)
    one, two = browser_page('administrator', script=script), browser_page('operator', script=script)
    one.goto(url)
    two.goto(url)
    two.get_by_label('Department').fill('Support')
    two.get_by_label('First Name').fill('Bea')
    two.get_by_role('button', name='Save', exact=True).click()
    two.get_by_text('alice was saved.').wait_for()
    one.get_by_label('Department').fill('Marketing')
    one.get_by_role('button', name='Save', exact=True).click()
    one.get_by_text('Not saved: test-operator changed this in the meantime').wait_for()
    department = one.get_by_role('group', name='Which value of Department is saved')
    assert department.get_by_label('Saved by test-operator: Support').is_checked() is False
    assert one.get_by_role('group', name='Which value of First Name').get_by_label('Saved by').is_checked()
    department.get_by_label('Yours: Marketing').check()
    one.get_by_role('button', name='Save', exact=True).click()
    one.get_by_text('alice was saved.').wait_for()
    user.refresh_from_db()
    assert (user.first_name, user.department) == ('Bea', 'Marketing')
