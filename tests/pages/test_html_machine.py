"""What every page gets from the machine: find and list, sign-in, search, preferences, parameters, checks."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from impadmin.console import checks, filters, registry, tables
from impadmin.console.models import Administrator, AuditEntry, Job, LoginFailure, Preference
from impadmin.console.page import Column, Page
from impadmin.system.models import Node
from tests.fixtures.data import PASSWORD, make_administrator
from tests.pages import payload

USERS = registry.page('end-users')
assert isinstance(USERS, Page)
URL = registry.page_url(USERS)


def find(client: Client, *conditions: tuple[str, str, str], join: str = 'and', **more: Any) -> list[str]:
    """User IDs a search finds, in the order of the list."""
    pairs = [pair for f, o, v in conditions for pair in (('j', join), ('f', f), ('o', o), ('v', v))]
    pairs += list(more.items()) or [('clear', '1')]
    answer = client.get(f'{URL}?{urlencode(pairs)}')
    assert answer.status_code == 200
    return [line.name for line in answer.context['lines']]


@pytest.fixture
def people(make_user: Callable[..., Any]) -> None:
    make_user('amelie', first_name='Amélie', last_name='Zola', department='Sales')
    make_user('Bob', first_name='Bob', last_name='Álvarez', department='')
    make_user('haruka', first_name='遥', last_name='阿部', department='営業部', node=None)
    make_user('percent', first_name='100%', last_name='under_score', department='Sales')


def test_operators_of_the_product(people: None, admin_client: Any) -> None:
    client = admin_client()
    assert find(client, ('user_id', 'begins', 'AM')) == ['amelie']
    assert find(client, ('user_id', 'contains', 'aruk')) == ['haruka']
    assert find(client, ('user_id', 'ends', 'OB')) == ['Bob']
    assert find(client, ('user_id', 'exactly', 'bob')) == ['Bob']
    assert find(client, ('department', 'empty', '')) == ['Bob']
    assert find(client, ('department', 'not_empty', '')) == ['amelie', 'haruka', 'percent']
    assert find(client, ('first_name', 'contains', 'É')) == ['amelie'], 'case-insensitive beyond ASCII'
    assert find(client, ('last_name', 'begins', 'álv')) == ['Bob']
    assert find(client, ('last_name', 'exactly', '阿部')) == ['haruka']
    assert find(client, ('first_name', 'contains', '%')) == ['percent'], 'wildcards are plain text'
    assert find(client, ('last_name', 'contains', '_')) == ['percent']


def test_and_or_clear_and_unknown(people: None, admin_client: Any) -> None:
    client = admin_client()
    both = (('department', 'exactly', 'sales'), ('user_id', 'begins', 'p'))
    assert find(client, *both) == ['percent']
    assert find(client, ('user_id', 'begins', 'b'), ('user_id', 'begins', 'h'), join='or') == ['Bob', 'haruka']
    assert len(find(client, ('credentials', 'contains', 'x'))) == 4, 'a field that is not offered is left out'
    assert len(find(client, ('user_id', 'nonsense', 'a'))) == 1, 'an unknown operator is the first one'
    assert len(find(client)) == 4


def test_sort_pages_columns_are_in_the_url_and_remembered(people: None, admin_client: Any) -> None:
    client = admin_client()
    assert find(client, sort='user_id') == ['amelie', 'Bob', 'haruka', 'percent']
    assert find(client, sort='-user_id') == ['percent', 'haruka', 'Bob', 'amelie']
    answer = client.get(f'{URL}?rows=20&height=compact&cols=user_id,last_name&clear=1')
    assert [head['label'] for head in answer.context['heads']] == ['User ID', 'Last Name']
    assert 'aria-sort="descending"' in answer.content.decode()
    again = client.get(URL)
    assert again.context['state'].rows == 20
    assert again.context['state'].height == 'compact'
    assert again.context['state'].chosen == ['user_id', 'last_name']
    assert again.context['state'].sort == '-user_id'
    client.get(f'{URL}?{urlencode({"f": "user_id", "o": "begins", "v": "bo", "j": "and"})}')
    assert [line.name for line in client.get(URL).context['lines']] == ['Bob'], 'the last search comes back'
    other = Client()
    other.force_login(make_administrator('operator'))
    assert len(other.get(URL).context['lines']) == 4, 'and only for who made it'
    assert Preference.objects.count() == 2


@pytest.mark.parametrize('few', [50, 0], ids=['by place', 'by name'])
def test_sorted_by_a_reference(few: int, people: None, admin_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name, whatever its case; rows without a reference stand last. It does not matter how it is done."""
    nodes = Node.objects.bulk_create([Node(name=name, address='192.0.2.9') for name in ('Zeta', 'alpha')])
    for user, node in zip(('amelie', 'Bob'), nodes, strict=True):
        USERS.model._default_manager.filter(user_id=user).update(home_node=node)
    monkeypatch.setattr(tables, 'FEW', few)
    assert find(admin_client(), sort='home_node') == ['Bob', 'percent', 'amelie', 'haruka']
    assert find(admin_client(), sort='-home_node') == ['amelie', 'percent', 'Bob', 'haruka']


def test_tabs_are_counted_and_a_page_beyond_the_end_is_the_last_one(people: None, admin_client: Any) -> None:
    client = admin_client()
    for query, names in (
        ('tab=not-assigned&page=9', ['haruka']),
        ('tab=contact-limit&page=2', []),
        ('tab=not-assigned&f=q&o=contains&v=haruka&page=9', ['haruka']),
        ('tab=not-assigned&f=q&o=contains&v=bob', []),
    ):
        answer = client.get(f'{URL}?rows=20&clear=1&{query}')
        assert [line.name for line in answer.context['lines']] == names, query
        assert answer.context['total'] == len(names)
        assert [tab['count'] for tab in answer.context['tabs']] == [4, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    'query',
    ['rows=7', 'rows=-1', 'rows=x', 'page=0', 'page=99999999999', 'sort=credentials', 'sort=--user_id', 'cols=nothing',
     'tab=nothing', 'height=huge', 'f=user_id', 'o=begins&v=x', 'select=all', 'drop=9', 'more=1',
     'redraw=1&f=im_enabled'],
)  # fmt: skip
def test_any_query_string_is_answered(query: str, people: None, admin_client: Any) -> None:
    assert admin_client().get(f'{URL}?{query}').status_code == 200


def test_wrong_values_of_numbers_and_dates_say_what_is_right() -> None:
    number = filters.FindField('contact_count', 'Contacts', 'number', 'contact_count', False)
    time = filters.FindField('at', 'Time', 'time', 'at', False)
    for value in ('many', '1e999', 'NaN', '٣x', '9' * 40):
        assert filters.condition('and', number, 'exactly', value).error == 'Enter a number.'
    for value in ('yesterday', '2026-13-01', '2026-02-30', '9999-99-99'):
        assert filters.condition('and', time, 'since', value).error == 'Enter a date as YYYY-MM-DD.'
    assert not filters.condition('and', number, 'at_least', '1,200').error


def test_75000_users_in_a_bounded_number_of_queries(make_user: Callable[..., Any], admin_client: Any) -> None:
    node = make_user('first').home_node
    model = USERS.model
    model._default_manager.bulk_create(
        (
            model(user_id=f'user{n}', last_name=f'Name {n % 977}', im_address=f'user{n}@example.com', home_node=node)
            for n in range(75_000)
        ),
        batch_size=5000,
    )
    with connection.cursor() as cursor:
        cursor.execute('ANALYZE end_user')
    client = admin_client()
    client.get(f'{URL}?clear=1&rows=250')
    for query in ('f=user_id&o=contains&v=99&j=and', 'clear=1&sort=-last_name', 'clear=1&sort=user_id&page=200'):
        client.get(f'{URL}?{query}')
        with CaptureQueriesContext(
            connection,
        ) as captured:
            answer = client.get(f'{URL}?{query}')
        assert len(answer.context['lines']) == 250
        assert len(captured) <= 20, '\n'.join(q['sql'][:160] for q in captured)


def test_nothing_yet_and_nothing_found(admin_client: Any) -> None:
    client = admin_client()
    empty = client.get(URL).content.decode()
    assert 'No End User yet' in empty
    assert 'Add New' in empty
    text = client.get(f'{URL}?f=user_id&o=begins&v=zz&j=and').content.decode()
    assert 'No End User matches' in text
    assert 'User ID begins with “zz”' in text
    assert 'Clear Filter' in text


def test_what_cannot_be_done_now_is_one_line(admin_client: Any) -> None:
    job = Job.objects.create(kind='bulk_edit', state='completed', description='Ended', ended_at=timezone.now())
    text = admin_client().get(registry.page_url('job-scheduler', 'edit', job.pk)).content.decode()
    assert text.count('class="act-why') == 1
    assert '3 actions are not possible now' in text
    for name in ('schedule', 'activate', 'stop'):
        assert f'aria-describedby="why-{name}"' in text
        assert f'id="why-{name}"' in text


# ---- sign-in


def sign_in(client: Client, username: str, password: str, **more: str) -> Any:
    return client.post('/login/', {'username': username, 'password': password, **more})


def test_sign_in_audit_and_session_rotation(db: None) -> None:
    account = make_administrator('operator', 'olga')
    client = Client()
    client.get('/login/')
    answer = sign_in(client, 'olga', PASSWORD, next='/ucm/')
    assert (answer.status_code, answer['Location']) == (302, '/ucm/')
    key = client.session.session_key
    assert sign_in(client, 'olga', PASSWORD).status_code == 302
    assert account.password.startswith('argon2')
    assert client.get('/logout/').status_code == 405, 'signing out needs POST'
    assert client.post('/logout/')['Location'] == '/login/'
    assert client.get('/')['Location'].startswith('/login/')
    other = Client()
    other.cookies['sessionid'] = key
    assert other.get('/').headers['Location'].startswith('/login/'), 'the old session is gone'
    actions = list(AuditEntry.objects.order_by('pk').values_list('action', flat=True))
    assert actions == ['sign-in', 'sign-in', 'sign-out']


@pytest.mark.parametrize(
    'target', ['https://evil.example/', '//evil.example/', '/\\evil.example', 'javascript:alert(1)', 'x']
)
def test_next_is_only_local(target: str, db: None) -> None:
    make_administrator('operator', 'olga')
    assert sign_in(Client(), 'olga', PASSWORD, next=target)['Location'] == '/'


def test_sign_in_is_throttled_per_user_and_address(db: None) -> None:
    make_administrator('operator', 'olga')
    client = Client()
    for _ in range(5):
        answer = sign_in(client, 'olga', 'wrong')
        assert answer.status_code == 200
        assert 'The user name or the password is wrong.' in answer.content.decode()
    blocked = sign_in(client, 'OLGA', PASSWORD)
    assert blocked.status_code == 429
    assert 'Too many failed attempts. Try again in' in blocked.content.decode()
    assert 0 < int(blocked['Retry-After']) <= 301
    assert 'sessionid' not in client.cookies
    elsewhere = Client(REMOTE_ADDR='192.0.2.9')
    assert sign_in(elsewhere, 'olga', PASSWORD).status_code == 302, 'others are not locked out'
    LoginFailure.objects.update(at=timezone.now() - timedelta(minutes=5))
    assert sign_in(client, 'olga', PASSWORD).status_code == 302
    assert AuditEntry.objects.filter(action='sign-in-failed').count() == 5


@pytest.mark.parametrize('username', ['', ' ', "' OR 1=1 --", 'x' * 5000, 'olga\0', '<script>'])
def test_wrong_user_names_are_answered_calmly(username: str, db: None) -> None:
    answer = sign_in(Client(), username, 'x' * 5000)
    assert answer.status_code == 200
    assert '<script>' not in answer.content.decode().replace('<script src', '')


def test_inactive_administrators_stay_out(db: None) -> None:
    account = make_administrator('operator', 'olga')
    Administrator.objects.filter(pk=account.pk).update(is_active=False)
    assert sign_in(Client(), 'olga', PASSWORD).status_code == 200


# ---- shell


def test_theme_and_language_are_kept_for_the_administrator(admin_client: Any) -> None:
    client = admin_client()
    assert client.post('/preferences/', {'theme': 'dark', 'next': '/admin/'})['Location'] == '/admin/'
    client.post('/preferences/', {'language': 'ja', 'next': '//evil.example'})
    text = client.get(URL).content.decode()
    assert '<html lang="ja" data-theme="dark">' in text
    account = Administrator.objects.get(username='test-administrator')
    assert (account.theme, account.language) == ('dark', 'ja')
    assert client.post('/preferences/', {'theme': 'pink', 'language': 'xx'}).status_code == 302
    account.refresh_from_db()
    assert (account.theme, account.language) == ('dark', 'ja')
    assert (
        Client().post('/preferences/', {'language': 'zh-hans', 'next': '/login/'}).cookies['django_language'].value
        == 'zh-hans'
    )


def test_search_finds_pages_settings_users_and_respects_roles(people: None, admin_client: Any) -> None:
    client = admin_client()
    found = client.get('/search/?q=contact+list', headers={'Accept': 'application/json'}).json()
    places = {(g['title'], r['text']) for g in found['groups'] for r in g['results']}
    assert ('Settings', 'Maximum Contact List Size (per user)') in places
    assert any(title == 'Pages' for title, _ in places)
    users = client.get('/search/?q=haruk', headers={'Accept': 'application/json'}).json()
    assert ('End Users', 'haruka') in {(g['title'], r['text']) for g in users['groups'] for r in g['results']}
    reader = admin_client('read_only').get('/search/?q=token', headers={'Accept': 'application/json'}).json()
    assert 'API Tokens' not in str(reader)
    for text in ('', '%', "'", '<b>x', 'x' * 4000, '阿部'):
        answer = client.get('/search/?' + urlencode({'q': text}))
        assert answer.status_code == 200
        assert '<b>x' not in answer.content.decode()


def test_shell_says_where_and_what(people: None, admin_client: Any) -> None:
    text = admin_client().get(URL).content.decode()
    assert 'href="#main"' in text
    assert re.search(r'<ol class="crumbs">.*User Management.*End User', text)
    assert 'aria-current="page">End User</a>' in text
    assert 'Configuration generation' in text
    assert 'Active Notifications' in text
    assert 'name="csrfmiddlewaretoken"' in text
    assert not re.search(r'<script(?! src=)|\son\w+="|(?:src|href)="(?:https?:)?//', text)


# ---- parameters


def test_service_parameters_choose_edit_default(db: None, admin_client: Any) -> None:
    client = admin_client()
    url = registry.page_url('service-parameters')
    chosen = client.get(url).context['nodes'][0]
    target = f'{url}?node={chosen.pk}&service=xcp_connection_manager'
    page = client.get(target)
    text = page.content.decode()
    assert 'Suggested value: 5222' in text
    assert 'This server only' in text
    assert 'All servers' in text
    assert 'Restarts: Cisco XCP Connection Manager.' in text
    data = {name: value for name, value in page.context['form'].initial.items() if value is not False}
    data['version'] = page.context['version']
    wrong = client.post(target, {**data, 'preauth_bytes': '10', 'client_port': 'x', 'bind_address': 'nowhere'})
    assert set(wrong.context['form'].errors) == {'preauth_bytes', 'client_port', 'bind_address'}
    assert 'Enter a number from 4096 to 65536.' in wrong.content.decode()
    same = client.post(target, {**data, 'direct_tls_port': data['client_port']})
    assert 'direct_tls_port' in same.context['form'].errors
    assert client.post(target, {**data, 'preauth_bytes': '9000'}).status_code == 302
    entry = AuditEntry.objects.latest('pk')
    assert (entry.before, entry.after) == ({'preauth_bytes': 8192}, {'preauth_bytes': 9000})
    stale = client.post(target, {**data, 'preauth_bytes': '9999'})
    assert 'changed this in the meantime' in stale.content.decode()
    reset = client.post(target, {**data, 'preauth_bytes': '9000', 'default': 'preauth_bytes'})
    assert reset.context['form']['preauth_bytes'].value() == '8192'
    assert '9000' in client.get(target).content.decode(), 'Set to default saves nothing by itself'
    assert client.get(f'{url}?node=nowhere&service=nothing').status_code == 200
    assert entry.object_label in client.get(registry.page_url('service-parameters', 'history')).content.decode()


def test_enterprise_parameters(db: None, admin_client: Any) -> None:
    client = admin_client()
    url = registry.page_url('enterprise-parameters')
    page = client.get(url)
    data = {**page.context['form'].initial, 'version': page.context['version'], 'cluster_id': 'Tokyo-1'}
    assert 'Impact preview' in client.post(url, {**data, 'preview': '1'}).content.decode()
    assert client.post(url, data).status_code == 302
    assert '<span>Tokyo-1</span>' in client.get(url).content.decode(), 'the foot of every page shows it'
    reader = admin_client('read_only')
    assert 'Your role may see these values' in reader.get(url).content.decode()
    assert reader.post(url, data).status_code == 403


# ---- declarations


def wrong(**changes: Any) -> list[str]:
    """What the checks say about the End Users page with some parts replaced."""
    broken = dataclasses.replace(USERS, **changes)
    pages = [broken if page is USERS else page for page in registry.registered()]
    return [what for rule in checks.RULES for what, _ in rule(broken, pages)]


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'columns': ('user_id', 'nothing')}, "the column 'nothing' is no field of EndUser"),
        ({'columns': ()}, 'it has no columns'),
        ({'columns': ('user_id', Column('user_id', 'x'))}, "the column 'user_id' is there 2 times"),
        ({'find': ('nothing',)}, "the find field 'nothing' is no field of EndUser"),
        ({'search': ('nothing',)}, "the search field 'nothing' is no field of EndUser"),
        ({'name': 'domains'}, 'another page has the same name'),
        ({'name': 'End Users'}, 'its name is not a slug'),
        ({'console': 'nothing'}, "there is no console 'nothing'"),
        ({'menu': 'User Management > Application User'}, 'another page has the same menu path'),
        ({'menu': 'a > b > c > d > e'}, 'is not usable'),
        ({'related': ('nothing',)}, "its related page 'nothing' does not exist"),
        ({'sample': None}, 'it can add but has no sample'),
        ({'panel': 'nothing.html'}, "its panel template 'nothing.html' does not exist"),
        ({'bad': {'nothing': (1,)}}, "the bad values name 'nothing'"),
        ({'read_only': ('nothing',)}, "'nothing' is no field of EndUser"),
    ],
)
def test_a_wrong_declaration_is_named(changes: dict[str, Any], text: str) -> None:
    assert any(text in what for what in wrong(**changes)), wrong(**changes)


def test_the_declarations_of_this_product_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.declarations(None) == []
    checks.demand()
    broken = dataclasses.replace(USERS, find=('nothing',))
    monkeypatch.setattr(registry, '_registered', [broken])
    with pytest.raises(ImproperlyConfigured, match="Page 'end-users': the find field 'nothing'"):
        checks.demand()
    with pytest.raises(ImproperlyConfigured, match='frozen'):
        registry.register(broken)
    assert payload.lists()
