"""Generated from the registry: every page, form, error and confirmation in Chinese and Japanese, no English left."""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.utils import timezone, translation
from django.utils.html import escape
from django.utils.translation import to_language, trans_real

from engine.contract import messages
from engine.contract.services import BY_KEY, CONNECTION_MANAGER, SERVICES, XCP_ROUTER
from engine.contract.standards import STANDARDS
from impadmin.console import registry
from impadmin.console.management.commands import imp_messages
from impadmin.console.page import BasePage, Page
from tests.fixtures.processes import wait_until
from tests.pages import payload

PAGES = registry.pages()
ADDABLE = [page for page in payload.lists() if 'add' in page.verbs]
LANGUAGES = {'zh-hans': 'zh_Hans', 'ja': 'ja'}
CJK = re.compile(r'[぀-ヿ㐀-鿿豈-﫿]')
WORDS = re.compile(r'[A-Za-z]{3,}')
UNTRANSLATED = re.compile(
    r'[\d年月日:-]+[ \d:]*UTC|YYYY-MM-DD|'
    r'English|test-\S+|admin|StandAloneCluster|UTC|IM and Presence Service|REST|XMPP.*|OpenAPI|[\w.@-]+\.(csv|log)'
    r'|UserID@\[Default_Domain\]|DOMAIN\.NOT\.SET|Balanced|SHA-256|Ctrl K|CSV|JSON|curl|Python|URL|HTTP|LDAP|SAML'
    r'|JSON Lines|example\.com|[\w.*-]+:[\w*]+([,、][\w.*-]+:[\w*]+)*'
    r'|Unified CM \(IM and Presence\)|ServiceFailed'
    r'|Webhook( > Webhook)?|Sync Agent|Presence Engine|CUCM|Exchange -- EWS Server|Office 365'
    r'|(tomcat|cup|cup-xmpp|cup-xmpp-s2s)(-ECDSA)?|[a-z0-9-]+-trust|node-link|uid|mail|givenName|imp-group-\d+'
    r'|[a-z]+([A-Z][A-Za-z]+)+|msRTCSIP-PrimaryUserAddress'
)
"""What stays as it is in every language: names of products and people, addresses, codes."""


class _Visible(HTMLParser):
    """Collects what a person reads: text nodes and the attributes that are read out or shown."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ('script', 'style', 'symbol', 'code', 'kbd', 'pre'):
            self.skipped += 1
        if tag != 'html' and values.get('lang') in ('en', 'zh-Hans', 'ja'):
            return
        self.texts += [value for name in ('aria-label', 'placeholder', 'title') if (value := values.get(name))]

    def handle_endtag(self, tag: str) -> None:
        if tag in ('script', 'style', 'symbol', 'code', 'kbd', 'pre'):
            self.skipped -= 1

    def handle_data(self, data: str) -> None:
        if not self.skipped and data.strip():
            self.texts.append(' '.join(data.split()))


INSTALLED = {
    'imp-1', 'imp1', '127.0.0.1', 'DefaultCUPSubcluster', 'conference-1-standalonecluster.example.com',
}  # fmt: skip
"""What every test finds installed."""


def visible(answer: Any) -> list[str]:
    """The texts of a page."""
    parser = _Visible()
    parser.feed(answer.content.decode())
    return parser.texts


@functools.cache
def unchanged(code: str) -> set[str]:
    """Terms and texts that a language leaves as they are."""
    same = {term for term, found in imp_messages.glossary().items() if found[code] == term}
    same |= {service.name for service in BY_KEY.values()}
    same |= {text for standard in STANDARDS for text in (standard.name, standard.title)}
    return same | {text for text, found in trans_real.translation(to_language(code))._catalog.items() if text == found}


def left_in_english(texts: list[str], code: str, data: set[str]) -> Iterator[str]:
    """Texts without a sign of the language that are neither data nor a term that stays English."""
    same = unchanged(code)
    for text in texts:
        if CJK.search(text) or not WORDS.search(text) or UNTRANSLATED.fullmatch(text):
            continue
        if text.removesuffix(':') in same or any(text in value or value in text for value in data if value):
            continue
        yield text


def data_of(page: Page, *numbers: int) -> set[str]:
    """Values of the samples, which stay as they are."""
    found = set()
    for n in numbers:
        found |= {str(value) for value in payload.sample(page, n).values() if isinstance(value, str) and value}
    return found


def speaking(client: Any, language: str) -> Any:
    """The client with its language chosen."""
    client.cookies['django_language'] = language
    return client


@pytest.mark.parametrize('language', LANGUAGES)
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_page_speaks_the_language(page: BasePage, language: str, admin_client: Any) -> None:
    client = speaking(admin_client('administrator'), language)
    answer = client.get(registry.page_url(page))
    assert answer.status_code == 200
    text = answer.content.decode()
    assert f'lang="{"zh-Hans" if language == "zh-hans" else "ja"}"' in text
    with translation.override(language):
        assert str(page.title) in text
    left = list(left_in_english(visible(answer), LANGUAGES[language], INSTALLED))
    assert not left


@pytest.mark.parametrize('language', LANGUAGES)
@pytest.mark.parametrize('page', ADDABLE, ids=lambda page: page.name)
def test_forms_and_confirmations_speak_the_language(page: Page, language: str, admin_client: Any) -> None:
    client = speaking(admin_client('administrator'), language)
    data = data_of(page, 1, 2) | INSTALLED
    code = LANGUAGES[language]
    assert not list(left_in_english(visible(client.get(registry.page_url(page, 'add'))), code, data))
    obj = payload.create(client, page, 1)
    data.add(str(obj))
    parts = ['history', *(verb for verb in ('edit', 'copy', 'delete') if verb in page.verbs)]
    for part in parts:
        answer = client.get(registry.page_url(page, part, obj.pk))
        assert answer.status_code == 200
        assert not list(left_in_english(visible(answer), code, data)), part
    if 'delete' in page.verbs:
        answer = client.post(registry.page_url(page, 'delete', obj.pk), {'confirmed': '1'}, follow=True)
        assert not list(left_in_english(visible(answer), code, data))


@pytest.mark.parametrize('language', LANGUAGES)
@pytest.mark.parametrize('page', ADDABLE, ids=lambda page: page.name)
def test_errors_speak_the_language(page: Page, language: str, admin_client: Any) -> None:
    client = speaking(admin_client('administrator'), language)
    for name, value in ((name, value) for name, values in payload.bad(page).items() for value in values):
        repeated = {f'{name}_again': value} if f'{name}_again' in page.extra else {}
        sent = payload.encode(page, {**payload.sample(page, 1), name: value, **repeated})
        answer = client.post(registry.page_url(page, 'add'), sent)
        assert answer.status_code == 200
        shown = answer.content.decode()
        with translation.override(language):
            for message in answer.context['form'].errors[name]:
                assert CJK.search(message), (value, message)
                assert escape(message) in shown


def as_the_engine_says(text: messages.Text) -> messages.Message:
    """A message with values like those of the engine."""
    problem = messages.message(messages.Text.PORT_IN_USE, port=5222)
    values: dict[str, Any] = dict.fromkeys(re.findall(r'%\((\w+)\)s', text), 'imp1')
    for name, value in (('service', CONNECTION_MANAGER), ('needed', XCP_ROUTER), ('monitor', XCP_ROUTER)):
        values |= {name: BY_KEY[value].name} if name in values else {}
    values |= {name: problem for name in ('reason', 'problem') if name in values}
    values |= {'services': [service.name for service in SERVICES]} if 'services' in values else {}
    return messages.message(text, **values)


@pytest.fixture
def node(db: None) -> Any:
    """The installed node, as if its engine had just been heard."""
    from impadmin.system.models import Node

    Node.objects.update(heartbeat_at=timezone.now())
    return Node.objects.get()


@pytest.mark.parametrize('language', LANGUAGES)
def test_what_the_engine_says_is_translated(language: str, node: Any, admin_client: Any, api: Any) -> None:
    from impadmin.system.models import Alarm, ServiceCommand, ServiceStatus

    browser, rest = speaking(admin_client('administrator'), language), api('administrator')
    alarm = f'ServiceFailed: {BY_KEY[CONNECTION_MANAGER].name}'
    row = {'node': node, 'service': CONNECTION_MANAGER}
    for text in messages.Text:
        said, now = as_the_engine_says(text), timezone.now()
        stored = messages.encode(said, messages.LONGEST)
        assert len(stored) <= messages.LONGEST
        ServiceStatus.objects.update_or_create({'state': 'Failed', 'since': now, 'detail': stored}, **row)
        Alarm.objects.update_or_create({'severity': 'High', 'text': messages.encode(said)}, node=node, name=alarm)
        command = ServiceCommand.objects.create(**row, verb='start', finished_at=now, error=stored)
        with translation.override(language):
            shown = messages.decode(messages.encode(said), translation.gettext)
        assert CJK.search(shown), text
        for name in ('control-center', 'presence-topology', 'notifications'):
            answer = browser.get(registry.page_url(name))
            content = answer.content.decode()
            assert '%(' not in content
            assert '[&quot;' not in content
            assert not list(left_in_english(visible(answer), LANGUAGES[language], INSTALLED)), (name, text)
            if name == 'notifications' or messages.load(stored) == said:
                assert escape(shown) in content, (name, text)
        found = rest.get('/api/v1/control-center/', {'command': command.pk}).json()
        assert found['error'] == str(said)[: messages.LONGEST]


@pytest.mark.parametrize('language', LANGUAGES)
def test_what_the_system_did_is_translated(language: str, db: None, admin_client: Any) -> None:
    from impadmin.console import audit
    from impadmin.console.actions import SYSTEM, do_set_parameters

    entry = audit.record(
        SYSTEM, 'domain audit', registry.page('domains'), None, None, {}, object_type='presence.Domain'
    )
    do_set_parameters(SYSTEM, '', None, {'cluster_id': 'Elsewhere'})
    client = speaking(admin_client('administrator'), language)
    data = {'Elsewhere', 'imp1'}
    for url in (registry.page_url('history'), registry.page_url('history', 'edit', entry.pk)):
        answer = client.get(url)
        assert answer.status_code == 200
        assert not list(left_in_english(visible(answer), LANGUAGES[language], data)), url
    with translation.override(language):
        title = translation.gettext('Enterprise Parameters')
    assert title in client.get(registry.page_url('history')).content.decode()


@pytest.mark.parametrize('language', LANGUAGES)
def test_the_rest_interface_is_described_in_the_language(language: str, db: None, admin_client: Any) -> None:
    text = speaking(admin_client('administrator'), language).get('/api/docs/').content.decode()
    with translation.override(language):
        for source in ('Find and list', 'Change some fields', 'Refused in the present state'):
            assert source not in text
            assert translation.gettext(source) in text


def test_plain_text_passes_through() -> None:
    for text in ('', 'No such file', '["what is this', '["a", "b"]', '["%(x)s %", {"x": 1}]', '[]'):
        assert messages.decode(text, str) == text
    long = messages.message(messages.Text.FAILED, service=BY_KEY[XCP_ROUTER].name, reason='x' * 500)
    assert messages.encode(long, messages.LONGEST) == str(long)[: messages.LONGEST]
    assert messages.load(messages.encode(long)) == long


def test_a_running_engine_is_read_in_japanese(db: None, make_engine: Any, admin_client: Any, api: Any) -> None:
    from impadmin.system.models import ServiceStatus

    engine = make_engine(wait=False)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(('127.0.0.1', engine.port))
        squatter.listen()
        failed = ServiceStatus.objects.filter(service=CONNECTION_MANAGER, state='Failed')
        wait_until(failed.exists, 'Cisco XCP Connection Manager fails')
        browser = speaking(admin_client('administrator'), 'ja')
        shown = f'ポート {engine.port} は使用中です'
        assert shown in browser.get(registry.page_url('control-center')).content.decode()
        assert shown in browser.get(registry.page_url('presence-topology')).content.decode()

        def alarmed() -> bool:
            return shown in browser.get(registry.page_url('notifications')).content.decode()

        wait_until(alarmed, 'the alarm is shown in Japanese')
        cells = api('administrator').get('/api/v1/control-center/').json()['services']
        cell = next(cell for cell in cells if cell['service'] == CONNECTION_MANAGER)
        assert cell['detail'] == f'port {engine.port} is in use'
