"""Elements as text with default namespaces instead of made-up prefixes, as clients and servers expect them."""

from __future__ import annotations

from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

_XML = 'http://www.w3.org/XML/1998/namespace'
_ENTITIES = {"'": '&apos;', '\n': '&#10;', '\t': '&#9;', '\r': '&#13;'}


def attribute(text: str) -> str:
    """``text`` for an attribute value between single quotes."""
    return escape(text, _ENTITIES)


def text(value: str) -> str:
    """``value`` as content."""
    return escape(value, {'\r': '&#13;'})


def split(name: str) -> tuple[str, str]:
    """(namespace, local name) of '{namespace}name'."""
    namespace, _, local = name.rpartition('}')
    return namespace[1:], local


def written(element: Element, around: str = '') -> str:
    """``element`` as it stands inside an element with the default namespace ``around``. Its tail is left out."""
    parts: list[str] = []
    _write(element, around, parts)
    return ''.join(parts)


def _write(element: Element, around: str, parts: list[str]) -> None:
    namespace, name = split(element.tag)
    parts.append(f'<{name}')
    if namespace != around:
        parts.append(f" xmlns='{attribute(namespace)}'")
    for number, (key, value) in enumerate(element.attrib.items()):
        space, local = split(key)
        if space == _XML:
            local = f'xml:{local}'
        elif space:
            parts.append(f" xmlns:a{number}='{attribute(space)}'")
            local = f'a{number}:{local}'
        parts.append(f" {local}='{attribute(value)}'")
    if not len(element) and not element.text:
        parts.append('/>')
        return
    parts.append('>')
    parts.append(text(element.text or ''))
    for child in element:
        _write(child, namespace, parts)
        parts.append(text(child.tail or ''))
    parts.append(f'</{name}>')
