"""Reading conversation files, and what fits what: the language of README.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError, fromstring

FOLDER: Final = Path(__file__).resolve().parent
PEERS: Final = ('imp', 'prosody')
_STEP: Final = re.compile(
    r'(?:\[(?P<peer>\w+)\] +)?(?P<who>\w+) +(?P<verb>->|>>|<-|connects|breaks|leaves|closed)(?: +(?P<what>.*))?$'
)
_NAME: Final = re.compile(r'\{([a-z][a-z0-9_.]*)\}')
WRAP: Final = "<w xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"


class Mistake(Exception):
    """The file is wrong; the text says where."""


@dataclass
class Step:
    """One line: ``peer`` '' for every peer."""

    line: int
    who: str
    verb: str
    what: str
    peer: str = ''


@dataclass
class Conversation:
    """One file."""

    path: Path
    title: str = ''
    proves: tuple[str, ...] = ()
    peers: tuple[str, ...] = PEERS
    because: str = ''
    clients: dict[str, tuple[str, str]] = field(default_factory=dict)
    """name -> (user, resource)"""
    steps: list[Step] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def users(self) -> list[str]:
        """The people in it."""
        return sorted({user for user, _ in self.clients.values()})


def conversations() -> list[Path]:
    """Every file."""
    return sorted(FOLDER.glob('*.scs'))


def read(path: Path) -> Conversation:
    """One file. Raises Mistake."""
    result = Conversation(path)
    lines = path.read_text(encoding='utf-8').splitlines()
    explained = False
    number = 0
    while number < len(lines):
        line = lines[number].rstrip()
        number += 1
        if not line.strip() or line.lstrip().startswith('#'):
            continue
        here = f'{path.name}:{number}'
        if header := re.match(r'(title|proves|peers|because|difference|client): *(.*)$', line):
            explained = _header(result, header.group(1), header.group(2), here) or explained
            continue
        found = _STEP.match(line)
        if found is None:
            raise Mistake(f'{here}: not understood: {line}')
        start, what = number, found['what'] or ''
        while found['verb'] in ('->', '<-') and what != 'nothing' and not _complete(what, here):
            if number == len(lines) or not lines[number].startswith((' ', '\t')):
                raise Mistake(f'{here}: the element is not complete: {what}')
            what += '\n' + lines[number].strip()
            number += 1
        if found['who'] not in result.clients:
            raise Mistake(f'{here}: there is no client {found["who"]}')
        if found['peer']:
            if found['peer'] not in PEERS:
                raise Mistake(f'{here}: there is no peer {found["peer"]}')
            if not explained:
                raise Mistake(f'{here}: say before with "difference:" why the peers differ')
        result.steps.append(Step(start, found['who'], found['verb'], what, found['peer'] or ''))
    if not result.title or not result.steps:
        raise Mistake(f'{path.name}: a title and steps are needed')
    if 'prosody' not in result.peers and not result.because:
        raise Mistake(f'{path.name}: say with "because:" why it is not played against Prosody')
    return result


def _header(result: Conversation, key: str, value: str, here: str) -> bool:
    if key == 'client':
        name, separator, address = (part.strip() for part in value.partition('='))
        user, _, resource = address.partition('/')
        if not separator or not user:
            raise Mistake(f'{here}: client: NAME = USER/RESOURCE')
        result.clients[name] = (user, resource or name)
    elif key == 'difference':
        result.differences.append(value)
        return True
    elif key in ('proves', 'peers'):
        setattr(result, key, tuple(value.replace(',', ' ').split()))
    else:
        setattr(result, key, value)
    return False


def _complete(text: str, here: str) -> bool:
    if not text.startswith('<'):
        raise Mistake(f'{here}: an element, or "nothing"')
    try:
        element(text)
    except ParseError:
        return False
    return True


def element(text: str) -> Element:
    """The element written in a file, in the namespaces of a client stream."""
    found = list(fromstring(f'{WRAP}{text}</w>'))  # noqa: S314 - our own files
    if len(found) != 1:
        raise ParseError('one element')
    return found[0]


def filled(text: str, names: dict[str, str]) -> str:
    """``text`` with the values of all ``{names}``. Raises Mistake for an unknown one."""

    def value(match: re.Match[str]) -> str:
        if match.group(1) not in names:
            raise Mistake(f'nothing is known as {match.group()}')
        return names[match.group(1)].replace('&', '&amp;').replace('<', '&lt;').replace("'", '&apos;')

    return _NAME.sub(value, text)


def fits(pattern: Element, found: Element, names: dict[str, str]) -> dict[str, str] | None:
    """The names learned when ``found`` is as ``pattern`` says, else None. What the pattern does not mention may be
    there; ``<no>`` holds children that may not."""
    if pattern.tag != found.tag:
        return None
    learned: dict[str, str] = {}
    for key, wanted in pattern.attrib.items():
        if wanted == '-':
            if key in found.attrib:
                return None
            continue
        if key not in found.attrib or not _text_fits(wanted, found.attrib[key], names | learned, learned):
            return None
    text = (pattern.text or '').strip()
    if text and not _text_fits(text, (found.text or '').strip(), names | learned, learned):
        return None
    left = list(found)
    for child in pattern:
        if child.tag.endswith('}no'):
            if any(fits(banned, one, names | learned) is not None for banned in child for one in found):
                return None
            continue
        for one in left:
            more = fits(child, one, names | learned)
            if more is not None:
                learned |= more
                left.remove(one)
                break
        else:
            return None
    return learned


def _text_fits(wanted: str, found: str, names: dict[str, str], learned: dict[str, str]) -> bool:
    if wanted == '*':
        return bool(found)
    parts: list[str] = []
    groups: list[str] = []
    position = 0
    for match in _NAME.finditer(wanted):
        parts.append(re.escape(wanted[position : match.start()]))
        position = match.end()
        name = match.group(1)
        if name in names:
            parts.append(re.escape(names[name]))
        else:
            groups.append(name)
            parts.append('(.+)')
    parts.append(re.escape(wanted[position:]))
    matched = re.fullmatch(''.join(parts), found, re.DOTALL)
    if matched is None:
        return False
    learned.update(zip(groups, matched.groups(), strict=True))
    return True
