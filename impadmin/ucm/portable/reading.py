"""Streaming a XEP-0227 document: one user after the other, with its line, whatever the size of the file.

Nothing of the document is kept but the user being read. DTDs are refused; XInclude is followed for relative paths below
the directory of the main file (XEP-0227 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import Element
from xml.parsers import expat

from impadmin.ucm.portable import NS, OLD_NS

_INCLUDE = '{http://www.w3.org/2001/XInclude}include'
_ROOTS = {f'{{{ns}}}server-data' for ns in (NS, OLD_NS)}
_HOSTS = {f'{{{ns}}}host' for ns in (NS, OLD_NS)}
_USERS = {f'{{{ns}}}user' for ns in (NS, OLD_NS)}
_CHUNK = 65536
MOST = 256 * 1024 * 1024
"""Characters of one user, tags included, roughly."""
DEPTH = 100
INCLUDES = 4
"""Deepest nesting of elements, and of files."""


class Unreadable(Exception):
    """The document cannot be read further; the message says where and why."""


@dataclass(slots=True)
class Portable:
    """One <user/>. ``line`` is where it begins in ``file``; ``problem`` says why it cannot be used."""

    host: str
    element: Element
    file: str
    line: int
    problem: str = ''

    @property
    def name(self) -> str:
        """The user part of the address, as written."""
        return self.element.get('name', '')


@dataclass(slots=True)
class Unknown:
    """Something between the users that is not imported."""

    file: str
    line: int
    what: str


@dataclass(slots=True)
class _Include:
    path: Path
    host: str | None
    line: int


Event = Portable | Unknown


def users(path: Path) -> Iterator[Event]:
    """Every user of a document. Raises Unreadable, and OSError."""
    base = path.resolve().parent
    yield from _file(path.resolve(), base, None, 0)


def _file(path: Path, base: Path, host: str | None, depth: int) -> Iterator[Event]:
    if depth > INCLUDES:
        raise Unreadable(f'{path.name}: files include each other deeper than {INCLUDES} times.')
    with path.open('rb') as file:
        for event in _Reader(path, base, host, depth).events(file):
            if isinstance(event, _Include):
                try:
                    yield from _file(event.path, base, event.host, depth + 1)
                except OSError as error:
                    raise Unreadable(f'{path.name} line {event.line}: {event.path.name}: {error.strerror}.') from error
            else:
                yield event


@dataclass(slots=True)
class _Reader:
    path: Path
    base: Path
    host: str | None
    depth: int
    found: list[Event | _Include] = field(default_factory=list)
    stack: list[Element] = field(default_factory=list)
    """The user being read and its open elements."""
    outer: list[str] = field(default_factory=list)
    """Names of the open elements around users."""
    line: int = 0
    size: int = 0
    skipping: int = 0
    parser: Any = None

    def events(self, file: BinaryIO) -> Iterator[Event | _Include]:
        self.parser = parser = expat.ParserCreate(namespace_separator='}')
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            while chunk := file.read(_CHUNK):
                parser.Parse(chunk, False)
                yield from self._take()
            parser.Parse(b'', True)
        except expat.ExpatError as error:
            text = expat.ErrorString(error.code)
            raise Unreadable(f'{self.path.name} line {error.lineno}: not well-formed XML ({text}).') from None
        yield from self._take()

    def _take(self) -> list[Event | _Include]:
        found, self.found = self.found, []
        return found

    def _fail(self, text: str) -> Unreadable:
        return Unreadable(f'{self.path.name} line {self.parser.CurrentLineNumber}: {text}')

    def _doctype(self, *_arguments: object) -> None:
        raise self._fail('A document type declaration is not allowed.')

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = f'{{{name}' if '}' in name else name
        if self.skipping:
            self.skipping += 1
        elif self.stack:
            self._inside(tag, attributes)
        elif tag == _INCLUDE:
            self.found.append(_Include(self._included(attributes), self.host, self.parser.CurrentLineNumber))
            self.skipping = 1
        elif tag in _USERS:
            if self.host is None:
                raise self._fail('A user stands outside of a host.')
            self.line, self.size = self.parser.CurrentLineNumber, 0
            self.stack.append(Element(tag, _attributes(attributes)))
        elif tag in _ROOTS and not self.outer and not self.depth:
            self.outer.append(tag)
        elif tag in _HOSTS and self.host is None and (self.outer or self.depth):
            self.host = attributes.get('jid', '')
            self.outer.append(tag)
        elif not self.outer:
            raise self._fail(f'This is no XEP-0227 document: it begins with {tag}.')
        else:
            self.found.append(Unknown(self.path.name, self.parser.CurrentLineNumber, tag))
            self.skipping = 1

    def _inside(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self.stack) >= DEPTH:
            raise self._fail(f'Elements are nested deeper than {DEPTH}.')
        if tag == _INCLUDE and len(self.stack) == 1:
            included = _whole(self._included(attributes), self.base, self.depth + 1)
            self.stack[-1].append(included)
            self.skipping = 1
            return
        self._count(len(tag) + sum(len(key) + len(value) for key, value in attributes.items()))
        child = Element(tag, _attributes(attributes))
        self.stack[-1].append(child)
        self.stack.append(child)

    def _end(self, name: str) -> None:
        if self.skipping:
            self.skipping -= 1
        elif self.stack:
            element = self.stack.pop()
            if not self.stack:
                self.found.append(Portable(self.host or '', element, self.path.name, self.line))
        elif self.outer and self.outer.pop() in _HOSTS:
            self.host = None

    def _characters(self, text: str) -> None:
        if not self.stack or self.skipping:
            return
        self._count(len(text))
        element = self.stack[-1]
        if len(element):
            last = element[-1]
            last.tail = (last.tail or '') + text
        else:
            element.text = (element.text or '') + text

    def _count(self, characters: int) -> None:
        self.size += characters
        if self.size > MOST:
            raise self._fail(f'A user has more than {MOST // 1024 // 1024} MiB.')

    def _included(self, attributes: dict[str, str]) -> Path:
        href = attributes.get('href', '')
        if not href or ':' in href or href.startswith('/') or {'parse', 'xpointer'} & attributes.keys():
            raise self._fail(f'Only relative paths can be included, not {href[:200]!r}.')
        path = (self.path.parent / href).resolve()
        if not path.is_relative_to(self.base):
            raise self._fail(f'{href[:200]!r} is outside of the directory of the document.')
        return path


def _attributes(attributes: dict[str, str]) -> dict[str, str]:
    return {f'{{{key}' if '}' in key else key: value for key, value in attributes.items()}


def _whole(path: Path, base: Path, depth: int) -> Element:
    """An included part of a user."""
    reader = _Reader(path, base, '', depth)
    holder = Element('holder')
    reader.stack.append(holder)
    try:
        with path.open('rb') as file:
            for _event in reader.events(file):
                pass
    except OSError as error:
        raise Unreadable(f'{path.name}: {error.strerror}.') from error
    if len(holder) != 1:
        raise Unreadable(f'{path.name}: one element was expected.')
    return holder[0]
