"""Generated from the registry: every page, form, error and confirmation in Chinese and Japanese, no English left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.utils import translation
from django.utils.html import escape

from engine.contract.services import BY_KEY
from impadmin.console import registry
from impadmin.console.management.commands import imp_messages
from impadmin.console.page import BasePage, Page
from tests.pages import payload

PAGES = registry.pages()
ADDABLE = [page for page in payload.lists() if 'add' in page.verbs]
LANGUAGES = {'zh-hans': 'zh_Hans', 'ja': 'ja'}
CJK = re.compile(r'[぀-ヿ㐀-鿿豈-﫿]')
WORDS = re.compile(r'[A-Za-z]{3,}')
UNTRANSLATED = re.compile(
    r'\d{4}-\d\d-\d\d[ \d:]*UTC|YYYY-MM-DD|'
    r'English|test-\S+|admin|StandAloneCluster|UTC|IM and Presence Service|REST|XMPP.*|OpenAPI|[\w.@-]+\.(csv|log)'
    r'|UserID@\[Default_Domain\]|DOMAIN\.NOT\.SET|Balanced|SHA-256|Ctrl K|CSV|JSON'
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
        if tag in ('script', 'style', 'symbol', 'code', 'kbd'):
            self.skipped += 1
        if tag != 'html' and values.get('lang') in ('en', 'zh-Hans', 'ja'):
            return
        self.texts += [value for name in ('aria-label', 'placeholder', 'title') if (value := values.get(name))]

    def handle_endtag(self, tag: str) -> None:
        if tag in ('script', 'style', 'symbol', 'code', 'kbd'):
            self.skipped -= 1

    def handle_data(self, data: str) -> None:
        if not self.skipped and data.strip():
            self.texts.append(' '.join(data.split()))


def visible(answer: Any) -> list[str]:
    """The texts of a page."""
    parser = _Visible()
    parser.feed(answer.content.decode())
    return parser.texts


def left_in_english(texts: list[str], code: str, data: set[str]) -> Iterator[str]:
    """Texts without a sign of the language that are neither data nor a term that stays English."""
    same = {term for term, found in imp_messages.glossary().items() if found[code] == term}
    same |= {service.name for service in BY_KEY.values()}
    for text in texts:
        if CJK.search(text) or not WORDS.search(text) or UNTRANSLATED.fullmatch(text):
            continue
        if text in same or any(text in value or value in text for value in data if value):
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
    left = list(left_in_english(visible(answer), LANGUAGES[language], {'imp-1', 'imp1', '127.0.0.1'}))
    assert not left


@pytest.mark.parametrize('language', LANGUAGES)
@pytest.mark.parametrize('page', ADDABLE, ids=lambda page: page.name)
def test_forms_and_confirmations_speak_the_language(page: Page, language: str, admin_client: Any) -> None:
    client = speaking(admin_client('administrator'), language)
    data = data_of(page, 1, 2) | {'imp-1', 'imp1', '127.0.0.1'}
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
@pytest.mark.parametrize(
    ('page', 'name'),
    [(page, name) for page in ADDABLE for name in page.bad],
    ids=lambda value: getattr(value, 'name', value),
)
def test_errors_speak_the_language(page: Page, name: str, language: str, admin_client: Any) -> None:
    client = speaking(admin_client('administrator'), language)
    for value in page.bad[name]:
        repeated = {f'{name}_again': value} if f'{name}_again' in page.extra else {}
        sent = payload.encode(page, {**payload.sample(page, 1), name: value, **repeated})
        answer = client.post(registry.page_url(page, 'add'), sent)
        assert answer.status_code == 200
        shown = answer.content.decode()
        with translation.override(language):
            for message in answer.context['form'].errors[name]:
                assert CJK.search(message), (value, message)
                assert escape(message) in shown
