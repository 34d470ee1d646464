"""Entity capabilities (XEP-0115): the <c/> of a presence, and the check of what disco#info answered."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.xmpp import ns

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from engine.xmpp.stanza import Stanza

_NEEDLE: Final = ns.CAPS.encode()
_TAG: Final = re.compile(rb'<c\s[^<>]*http://jabber\.org/protocol/caps[^<>]*>')
_ALGORITHMS: Final = {
    'sha-1': 'sha1',
    'sha-224': 'sha224',
    'sha-256': 'sha256',
    'sha-384': 'sha384',
    'sha-512': 'sha512',
}
LENGTH: Final = 1024
_LANG: Final = f'{{{ns.XML}}}lang'


class Caps(NamedTuple):
    """What a client announced. ``algorithm`` '' is the form of before version 1.4, which nothing can verify."""

    node: str
    ver: str
    algorithm: str


def tag(raw: bytes) -> bytes | None:
    """The bytes of the <c/> of a presence, to recognise the same one again; b'' when it is written so that only the
    tree tells, None when there is none. 0.1 microseconds without capabilities, 0.8 with."""
    if _NEEDLE not in raw:
        return None
    match = _TAG.search(raw)
    return match.group() if match else b''


def read(stanza: Stanza) -> Caps | None:
    """The capabilities of a presence."""
    found = stanza.child(ns.CAPS, 'c')
    if found is None:
        return None
    caps = Caps(found.get('node', ''), found.get('ver', ''), found.get('hash', ''))
    return caps if caps.node and caps.ver and all(len(part) <= LENGTH for part in caps) else None


def features(query: Element) -> list[str]:
    """The features of a disco#info result."""
    return [child.get('var', '') for child in query.findall(f'{{{ns.DISCO_INFO}}}feature')]


def verify(query: Element, caps: Caps) -> bool:
    """Whether a disco#info result is what was announced (XEP-0115 5.4). Only then may others rely on it."""
    algorithm = _ALGORITHMS.get(caps.algorithm)
    if algorithm is None:
        return False
    text = _text(query)
    if text is None:
        return False
    digest = hashlib.new(algorithm, text.encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode() == caps.ver


def _text(query: Element) -> str | None:
    """The verification string (XEP-0115 5.1); None when the result is ill-formed in the sense of 5.4."""
    identities = sorted(
        f'{i.get("category", "")}/{i.get("type", "")}/{i.get(_LANG, "")}/{i.get("name", "")}<'
        for i in query.findall(f'{{{ns.DISCO_INFO}}}identity')
    )
    names = sorted(features(query))
    if len(set(identities)) != len(identities) or len(set(names)) != len(names):
        return None
    forms: dict[str, str] = {}
    for form in query.findall(f'{{{ns.DATA_FORMS}}}x'):
        fields = {
            field.get('var', ''): sorted(value.text or '' for value in field.findall(f'{{{ns.DATA_FORMS}}}value'))
            for field in form.findall(f'{{{ns.DATA_FORMS}}}field')
        }
        kind = fields.pop('FORM_TYPE', [])
        if len(kind) > 1 or (kind and kind[0] in forms):
            return None
        if kind:
            inside = ''.join(f'{var}<' + ''.join(f'{value}<' for value in fields[var]) for var in sorted(fields))
            forms[kind[0]] = f'{kind[0]}<{inside}'
    return ''.join(identities) + ''.join(f'{name}<' for name in names) + ''.join(forms[key] for key in sorted(forms))
