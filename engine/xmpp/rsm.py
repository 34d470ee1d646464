"""Result Set Management (XEP-0059): what part of a long list a request asks for, and what the answer says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from engine.xmpp.stanza import element

RSM: Final = 'http://jabber.org/protocol/rsm'
_DIGITS: Final = 18
_LONGEST: Final = 1024


class SetError(ValueError):
    """The <set/> is not as it must be; the message says what would be right. Answer it with bad-request."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """``max`` items, None: as many as the server likes; 0 asks for the count only. At most one of ``after`` (item id),
    ``before`` (item id, '' for the last page) and ``index`` (place of the first item) is given."""

    max: int | None = None
    after: str | None = None
    before: str | None = None
    index: int | None = None


def parse(parent: Element) -> PageRequest:
    """The request in the <set/> among the children of ``parent``; everything open when there is none. Raises
    SetError."""
    found = parent.find(f'{{{RSM}}}set')
    if found is None:
        return PageRequest()
    given: dict[str, str] = {}
    for child in found:
        name = child.tag.removeprefix(f'{{{RSM}}}')
        if name in given:
            raise SetError(f'<{name[:40]}/> is there twice.')
        given[name] = (child.text or '').strip()
    places = [name for name in ('after', 'before', 'index') if name in given]
    if len(places) > 1:
        raise SetError(f'Give only one of after, before and index, not {" and ".join(places)}.')
    for name in ('after', 'before'):
        if len(given.get(name, '')) > _LONGEST:
            raise SetError(f'The id in <{name}/> is too long.')
    if given.get('after') == '':
        raise SetError('<after/> needs the id of an item. Without it the first page is returned.')
    return PageRequest(_number(given, 'max'), given.get('after'), given.get('before'), _number(given, 'index'))


def _number(given: dict[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise SetError(f'<{name}/> is a whole number of 0 or more, not {text[:40]!r}.')
    return int(text) if len(text) <= _DIGITS else 10**_DIGITS


def answer(first: str = '', last: str = '', index: int | None = None, count: int | None = None) -> str:
    """The <set/> of a result: ids of the first and the last item of the page ('' when it is empty), place of the first
    one, and number of items in the whole list."""
    inside = ''
    if first:
        inside += element('first', '', first, index=None if index is None else str(index))
        inside += element('last', '', last)
    if count is not None:
        inside += element('count', '', str(count))
    return f"<set xmlns='{RSM}'>{inside}</set>"
