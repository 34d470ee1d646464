"""Cards of non-presence contacts: vCard 3.0 (RFC 2426) in one line, as the original exports it, and as vcard-temp.

The original puts one blank between the properties of a card (guide 10978) instead of a line break; a property begins
where a known name stands, with parameters and a colon. The text is kept as it came; reading it loses nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

import msgspec

VCARD: Final = 'vcard-temp'
CONTENT_TYPE: Final = 'text/directory'
VCARDS: Final = frozenset((CONTENT_TYPE, 'text/vcard', 'text/x-vcard'))
VERSION: Final = '3'
LENGTH: Final = 30_000
"""Longest card, in characters (spec 14: that of a location, guide 11141; the guide names none for cards)."""

_PARTS: Final = {
    'N': ('FAMILY', 'GIVEN', 'MIDDLE', 'PREFIX', 'SUFFIX'),
    'ADR': ('POBOX', 'EXTADD', 'STREET', 'LOCALITY', 'REGION', 'PCODE', 'CTRY'),
    'ORG': ('ORGNAME', 'ORGUNIT'),
}
"""Structured properties: the last part may come several times."""
_VALUE: Final = {'TEL': 'NUMBER', 'EMAIL': 'USERID'}
_PLAIN: Final = (
    'FN', 'NICKNAME', 'BDAY', 'TITLE', 'ROLE', 'NOTE', 'URL', 'UID', 'TZ', 'REV', 'PRODID', 'SORT-STRING', 'MAILER',
)  # fmt: skip
_FLAGS: Final = {
    'ADR': ('HOME', 'WORK', 'POSTAL', 'PARCEL', 'DOM', 'INTL', 'PREF'),
    'TEL': (
        'HOME', 'WORK', 'VOICE', 'FAX', 'PAGER', 'MSG', 'CELL', 'VIDEO', 'BBS', 'MODEM', 'ISDN', 'PCS', 'PREF',
    ),
    'EMAIL': ('HOME', 'WORK', 'INTERNET', 'PREF', 'X400'),
}  # fmt: skip
_NAMES = '|'.join(
    (
        *_PARTS, *_VALUE, *_PLAIN, 'BEGIN', 'END', 'VERSION', 'PHOTO', 'LABEL', 'GEO', 'LOGO', 'AGENT', 'CATEGORIES',
        'SOUND', 'CLASS', 'KEY', 'IMPP', 'SOURCE', 'NAME', 'PROFILE', 'X-[A-Z0-9-]+',
    )
)  # fmt: skip
_HEAD = rf'(?:[A-Z0-9-]+\.)?({_NAMES})((?:;[A-Z0-9_-]+(?:=(?:"[^"]*"|[^;:"\s]*))?)*):'
_PROPERTY = re.compile(rf'(?:^| ){_HEAD}', re.IGNORECASE)
_PARAMETER = re.compile(r';([^=;]+)(?:=("[^"]*"|[^;]*))?')
_FOLDED = re.compile(r'\r?\n[ \t]')
_BREAKS = re.compile(r'[ \t]*(?:\r\n|\r|\n)[ \t]*')
_UNESCAPE = re.compile(r'\\(.)')
ESCAPE = str.maketrans({'\\': '\\\\', ';': '\\;', ',': '\\,', '\n': '\\n', '\r': None})
_COMPONENTS = re.compile(r'((?:[^;\\]|\\.)*)(?:;|$)')
_DOUBLY_ESCAPED = re.compile(r'ADR\\;[A-Z,]*:')


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a file says of a contact: Content Type, Version and Info."""

    info: str
    type: str = CONTENT_TYPE
    version: str = VERSION


def dump(card: Card) -> str:
    """For storing; equal cards give equal text."""
    return msgspec.json.encode(card).decode()


def load(stored: str) -> Card:
    """A card as it was stored."""
    return msgspec.json.decode(stored, type=Card)


class Property(NamedTuple):
    """One property; ``flags`` are its types in upper case, ``value`` is still escaped."""

    name: str
    flags: tuple[str, ...]
    value: str


def one_line(text: str) -> str:
    """A card of one or many lines as one line with single blanks between the properties."""
    return _BREAKS.sub(' ', _FOLDED.sub('', text).strip())


def is_vcard(text: str) -> bool:
    """Whether a card in one line begins and ends as a vCard does."""
    upper = text.upper()
    return upper.startswith('BEGIN:VCARD') and upper.endswith('END:VCARD')


def properties(text: str) -> list[Property]:
    """The properties of a card in one line, without BEGIN, END and VERSION."""
    found = list(_PROPERTY.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    result = []
    for match, end in zip(found, ends, strict=True):
        name = match[1].upper()
        if name not in ('BEGIN', 'END', 'VERSION'):
            result.append(Property(name, _types(match[2]), text[match.end() : end]))
    return result


def _types(parameters: str) -> tuple[str, ...]:
    flags: list[str] = []
    for name, value in _PARAMETER.findall(parameters):
        if not value:
            flags.append(name.upper())
        elif name.upper() == 'TYPE':
            flags += value.strip('"').upper().split(',')
    return tuple(flags)


def _parts(name: str, value: str) -> list[str]:
    """The components of a structured value, unescaped."""
    if name == 'ADR':
        # the original writes "ADR\;WORK:" before some addresses and escapes the separators (guide 10979)
        value, doubled = _DOUBLY_ESCAPED.subn('', value, 1)
        if doubled:
            value = value.replace('\\;', ';')
    return [plain(match[1]) for match in _COMPONENTS.finditer(value)][: value.count(';') + 1]


def plain(value: str) -> str:
    """A value as people read it."""
    return _UNESCAPE.sub(lambda match: '\n' if match[1] in 'nN' else match[1], value)


def display_name(found: Iterable[Property]) -> str:
    """What a contact list calls the contact: the full name, else nickname, name, organisation, mail or telephone."""
    values: dict[str, str] = {}
    for entry in found:
        values.setdefault(entry.name, entry.value)
    if name := values.get('N'):
        parts = [*_parts('N', name), '', '']
        values['N'] = f'{parts[1]} {parts[0]}'.strip()
    if organisation := values.get('ORG'):
        values['ORG'] = organisation.partition(';')[0]
    for key in ('FN', 'NICKNAME', 'N', 'ORG', 'EMAIL', 'TEL'):
        if text := plain(values.get(key, '')).strip():
            return ' '.join(text.split())[:255]
    return ''


def as_xml(found: Iterable[Property]) -> str:
    """The card as a <vCard/> (XEP-0054). Properties that it has no element for are left out."""
    inside = ''.join(map(_element, found))
    return f"<vCard xmlns='{VCARD}'>{inside}</vCard>"


def _element(entry: Property) -> str:
    name = entry.name
    flags = ''.join(f'<{flag}/>' for flag in _FLAGS.get(name, ()) if flag in entry.flags)
    if name in _PARTS:
        names = _PARTS[name]
        inside = ''.join(
            _text(names[min(place, len(names) - 1)], part)
            for place, part in enumerate(_parts(name, entry.value))
            if part
        )
    elif name in _VALUE:
        inside = _text(_VALUE[name], plain(entry.value))
    elif name == 'PHOTO':
        kind = next((flag for flag in entry.flags if flag not in ('ENCODING', 'B', 'BASE64')), 'JPEG')
        inside = _text('TYPE', f'image/{kind.lower()}') + _text('BINVAL', entry.value)
    elif name in _PLAIN:
        return _text(name, plain(entry.value))
    else:
        return ''
    return f'<{name}>{flags}{inside}</{name}>'


def _text(name: str, value: str) -> str:
    return f'<{name}>{escape(value)}</{name}>'


def from_xml(card: Element) -> str:
    """A <vCard/> as a card in one line, its properties by name as the original writes them."""
    lines = sorted(line for child in card if (line := _line(child)))
    return ' '.join(('BEGIN:VCARD', *lines, 'VERSION:3.0', 'END:VCARD'))


def _line(child: Element) -> str:
    name = child.tag.rpartition('}')[2]
    parts = [(part.tag.rpartition('}')[2], ' '.join((part.text or '').split(' '))) for part in child]
    flags = ','.join(flag for flag, _ in parts if flag in _FLAGS.get(name, ()))
    head = f'{name};TYPE={flags}' if flags else name
    if name in _PARTS:
        names = _PARTS[name]
        values = [[text for key, text in parts if key == part] or [''] for part in names]
        return f'{head}:' + ';'.join(text.translate(ESCAPE) for texts in values for text in texts).rstrip(';')
    if name in _VALUE:
        value = next((text for key, text in parts if key == _VALUE[name]), '')
    elif name == 'PHOTO':
        known = dict(parts)
        kind = known.get('TYPE', '').rpartition('/')[2].upper() or 'JPEG'
        data = ''.join(known.get('BINVAL', '').split())
        return f'PHOTO;ENCODING=b;TYPE={kind}:{data}' if data and kind.isalnum() else ''
    elif name in _PLAIN:
        value = child.text or ''
    else:
        return ''
    return f'{head}:{value.translate(ESCAPE)}' if value else ''
