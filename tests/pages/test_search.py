"""Find that finds: weights, three languages, permissions, a bounded number of queries, help of every page."""

from __future__ import annotations

import dataclasses
import html
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.db.models.expressions import RawSQL
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from impadmin.console import checks, folding, registry, tables
from impadmin.console import help as page_help
from impadmin.console.page import Page
from impadmin.ucm.models import EndUser
from tests.pages import payload

USERS_URL = registry.page_url('end-users')
SHOWN = [page for page in registry.pages() if not page.waits_for]


def groups(client: Any, text: str) -> dict[str, list[str]]:
    """What a search finds, by group, in order."""
    answer = client.get('/search/', {'q': text}, headers={'accept': 'application/json'})
    assert answer.status_code == 200
    return {group['title']: [hit['text'] for hit in group['results']] for group in answer.json()['groups']}


def test_better_matches_come_first(admin_client: Any, make_user: Callable[..., Any]) -> None:
    make_user('xanna', first_name='Old', last_name='Maria Anna')
    make_user('annabel', last_name='Zander')
    make_user('anna', last_name='Young')
    make_user('domains', last_name='Strange')
    client = admin_client()
    assert groups(client, 'ANNA')['End Users'] == ['anna', 'annabel', 'xanna']
    assert next(iter(groups(client, 'anna'))) == 'End Users', 'exactly that name'
    found = list(groups(client, 'domain'))
    assert found.index('Pages') < found.index('Settings') < found.index('End Users'), 'pages before objects'
    pages = groups(client, 'notifications')['Pages']
    assert pages[0] == 'Notifications', 'exactly that name before names that contain it'
    assert 'Maximum Contact List Size (per user)' in groups(client, 'size contact maximum')['Settings']


@pytest.mark.parametrize(('language', 'word'), [('zh-hans', '即时'), ('ja', 'ドメイン'), ('en', 'Domains')])
def test_both_languages_find(language: str, word: str, admin_client: Any) -> None:
    client = admin_client()
    client.cookies['django_language'] = language
    account = client.get('/').wsgi_request.user
    account.language = language
    account.save()
    with translation.override(language):
        title = translation.gettext('Domains')
    for text in ('Domains', title):
        pages = next(iter(groups(client, text).values()))
        assert pages[0] == title, text
    assert groups(client, word)


def test_roles_find_only_what_they_may_open(admin_client: Any) -> None:
    assert 'API Tokens' in groups(admin_client('administrator'), 'token')['Pages']
    found = groups(admin_client('read_only'), 'token')
    assert 'API Tokens' not in found.get('Pages', []) + found.get('Help', [])
    assert 'Actions' not in groups(admin_client('read_only'), 'domain')


def test_help_is_found_by_its_text(admin_client: Any) -> None:
    client = admin_client()
    assert 'Suppress Offline Instant Messaging' in groups(client, 'not signed in are refused')['Help']
    shown = client.get('/help/', {'q': 'not signed in are refused'}).content.decode()
    assert 'messaging-settings/help/#suppress_offline' in shown
    index = client.get('/help/').content.decode()
    for page in SHOWN:
        assert f'href="{registry.page_url(page, "help")}"' in index


def test_the_database_folds_as_python_does(db: None) -> None:
    """Every letter and sign of the scripts that names have here."""
    signs = [
        chr(n) for n in (*range(32, 0x2FFF), *range(0x3041, 0x3400), *range(0x4E00, 0x5000), *range(0xF900, 0xFFE8))
    ]
    signs = [sign for sign in signs if unicodedata.category(sign) not in ('Cn', 'Cs', 'Mn')]
    with connection.cursor() as cursor:
        sql, _ = folding.Fold(RawSQL('sign', ())).as_sql(
            EndUser.objects.all().query.get_compiler('default'), connection
        )
        cursor.execute(f'SELECT sign, {sql} FROM unnest(%s::text[]) AS sign', [signs])  # noqa: S608 - no value
        wrong = [(sign, hex(ord(sign)), made) for sign, made in cursor.fetchall() if made != folding.fold(sign)]
    assert wrong == []


def test_names_are_found_in_every_script(admin_client: Any, make_user: Callable[..., Any]) -> None:
    """Case, width and marks do not matter, whoever wrote the row; every word must occur."""
    make_user('u1', first_name='Amélie', last_name='Straßer', display_name='Amélie Straßer')
    make_user('u2', first_name='太郎', last_name='山田', display_name='山田　太郎')
    make_user('u3', first_name='伟', last_name='陈', department='销售部')
    make_user('u4', first_name='Łukasz', last_name='Ｗｉｄｅ')
    client = admin_client()
    for text, user in (
        ('amelie', 'u1'), ('STRASSER', 'u1'),
        ('ame\u0301lie', 'u1'), ('strasser amélie', 'u1'), ('山田 太郎', 'u2'), ('太', 'u2'),
        ('陈', 'u3'), ('销售', 'u3'), ('lukasz wide', 'u4'), ('ｌｕｋ', 'u4'),
    ):  # fmt: skip
        found = groups(client, text)
        assert [hit.split(' – ')[0] for hit in found['End Users']] == [user], text
        query = {'f': 'q', 'o': 'contains', 'v': text, 'clear': '1'}
        assert [line.name for line in client.get(USERS_URL, query).context['lines']] == [user], text
    for name, operator, text in (
        ('first_name', 'begins', 'AME'), ('last_name', 'ends', 'sser'), ('display_name', 'contains', 'lie str'),
    ):  # fmt: skip
        query = {'f': name, 'o': operator, 'v': text, 'clear': '1'}
        assert [line.name for line in client.get(USERS_URL, query).context['lines']] == ['u1'], text
    EndUser.objects.filter(user_id='u1').update(first_name='Zoë')  # no form, no job: the column follows
    assert 'End Users' not in groups(client, 'amelie strasser nobody')
    assert groups(client, 'zoe')['End Users'] == ['u1 – Zoë']
    shown = client.get('/search/', {'q': 'zoe'}).content.decode()
    assert '<b>Zoë</b>' in shown


def test_saved_searches_are_found_by_name(admin_client: Any, make_user: Callable[..., Any]) -> None:
    client = admin_client('operator')
    for name in ('Łódź – <b>"50%" & more</b>', 'Sales', 'Sales of Łódź'):
        client.post(f'{USERS_URL}searches/?f=department&o=exactly&v=Sales&j=and', {'name': name})
    found = groups(client, 'sales')
    assert next(iter(found)) == 'Saved searches', 'exactly that name'
    assert found['Saved searches'] == ['Sales', 'Sales of Łódź']
    answer = client.get('/search/', {'q': 'lodz 50%'}, headers={'accept': 'application/json'})
    (group,) = [one for one in answer.json()['groups'] if one['title'] == 'Saved searches']
    (hit,) = group['results']
    assert hit['text'] == 'Łódź – <b>"50%" & more</b>'
    assert hit['place'] == 'End Users'
    assert client.get(hit['url']).context['state'].conditions[0].value == 'Sales'
    assert '<b>"50%"' not in client.get('/search/', {'q': '50%'}).content.decode()
    assert 'Saved searches' not in groups(admin_client('read_only'), 'sales'), 'own ones, and those that are shared'


def test_the_number_of_queries_does_not_grow(admin_client: Any, make_user: Callable[..., Any]) -> None:
    client = admin_client()
    client.get('/search/', {'q': 'a'})
    for n in range(12):
        make_user(f'someone{n}')
    with CaptureQueriesContext(connection) as few:
        client.get('/search/', {'q': 'nothing at all'}, headers={'accept': 'application/json'})
    with CaptureQueriesContext(connection) as many:
        found = groups(client, 'someone')
    assert len(found['End Users']) == 8
    searchable = sum(isinstance(page, Page) and bool(page.search) for page in SHOWN)
    assert len(many) <= len(few) + 1 <= searchable + 7, [query['sql'] for query in many]
    page = client.get('/search/', {'q': 'someone'}).content.decode()
    assert 'f=q&amp;o=contains&amp;v=someone' in page, 'the rest is one click away'


def test_hostile_texts_find_nothing(admin_client: Any) -> None:
    for text in ('<script>', '%', "'", '\\', '\0', '_' * 500, '\ud83d', '١٢٣', '9' * 30, ' '):
        answer = admin_client().get('/search/', {'q': text.encode('utf-8', 'replace')})
        assert answer.status_code in (200, 400)
        assert '<script>' not in answer.content.decode().split('<main')[1]


def test_every_page_has_help(admin_client: Any) -> None:
    client = admin_client()
    for page in registry.pages():
        answer = client.get(registry.page_url(page, 'help'))
        assert answer.status_code == 200, page.name
        text = html.unescape(answer.content.decode())
        assert page.help is not None, page.name
        for sentence in (page.intro, page.help.when, page.help.effect):
            assert sentence
            assert str(sentence) in text, page.name
        anchors = [entry.anchor for section in page_help.sections(page) for entry in section.entries]
        assert len(anchors) == len(set(anchors)), page.name
        for anchor in anchors:
            assert f'id="{anchor}"' in text, (page.name, anchor)
        for name in page_help.services(page):
            assert name in text


def test_a_wrong_value_links_to_its_field_and_its_help(admin_client: Any) -> None:
    page = registry.page('standard-configuration')
    url = registry.page_url(page)
    client = admin_client()
    row = page.model._default_manager.get(pk=1)  # type: ignore[attr-defined]
    data = {**payload.encode(page, payload.present(page, row)), 'max_contacts': '0'}  # type: ignore[arg-type]
    text = client.post(url, data).content.decode()
    assert 'href="#f-max_contacts"' in text
    assert f'href="{url}help/#max_contacts"' in text


def test_a_wrong_parameter_links_to_its_help(admin_client: Any) -> None:
    url = f'{registry.page_url("service-parameters")}?service=xcp_connection_manager'
    client = admin_client()
    shown = client.get(url)
    answer = client.post(url, {'version': shown.context['version'], 'client_port': 'many'})
    anchor = 'xcp_connection_manager.client_port'
    assert f'{registry.page_url("service-parameters")}help/#{anchor}' in answer.content.decode()
    assert f'id="{anchor}"' in client.get(registry.page_url('service-parameters', 'help')).content.decode()


def test_fields_say_which_services_restart(admin_client: Any) -> None:
    sentence = 'Restarts: Cisco Presence Engine, Cisco XCP Router.'
    assert sentence in admin_client().get(registry.page_url('standard-configuration')).content.decode()


def test_a_page_without_help_is_refused() -> None:
    page = dataclasses.replace(registry.page('domains'), help=None)
    assert 'it has no help' in [what for rule in checks.RULES for what, _ in rule(page, registry.registered())]


@pytest.mark.parametrize(('language', 'text'), [('en', '2025-03-07 14:05:09'), ('ja', '2025年3月7日 14:05:09')])
def test_dates_and_numbers_are_written_as_the_language_does(language: str, text: str) -> None:
    with translation.override(language):
        assert tables.exactly_when(datetime(2025, 3, 7, 14, 5, 9, tzinfo=UTC)) == text
        assert tables.number(1204) == '1,204'
