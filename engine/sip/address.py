"""SIP addresses and parameters (RFC 3261 19.1, 20), and how they and JIDs name the same user (RFC 7247)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from engine.contract import jid
from engine.sip.message import BadMessage

SCHEMES: Final = ('sip', 'sips', 'im', 'pres')
_URI: Final = re.compile(
    r'([A-Za-z]{1,10}):(?:([^@:;?<>"\s]{0,1024})(?::[^@<>"\s]{0,128})?@)?'
    r'(\[[0-9A-Fa-f:.]{2,45}\]|[^\[\]@:;?<>"/,\s]{1,255})(?::([0-9]{1,5}))?((?:;[^;?<>"\s]*)*)(?:\?[^<>"\s]*)?'
)
_PARAMETER: Final = re.compile(r';[ \t]*([^=;,"<> \t]{1,64})(?:[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^;,"<> \t]*))?[ \t]*')
_NAMED: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"[ \t]*|[^"<>;,]*)<([^<>]*)>')
_VIA: Final = re.compile(
    r'SIP[ \t]*/[ \t]*2\.0[ \t]*/[ \t]*([A-Za-z0-9-]{1,16})[ \t]+'
    r'(\[[0-9A-Fa-f:.]{2,45}\]|[^\[\]:;,\s]{1,255})(?:[ \t]*:[ \t]*([0-9]{1,5}))?[ \t]*',
    re.I,
)
_LOCAL: Final = "-_.!~*'()+$"
"""What stands in the user part as it is; the rest is escaped (RFC 3261 25.1)."""


@dataclass(frozen=True, slots=True)
class Uri:
    """One address: ``user`` is decoded, ``host`` in lower case, parameter names in lower case."""

    scheme: str
    user: str
    host: str
    port: int | None = None
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """A header such as From or Contact: the address as it was written, and the parameters behind it."""

    uri: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class Via:
    """The topmost Via."""

    transport: str
    host: str
    port: int | None
    parameters: dict[str, str]


def read_uri(text: str) -> Uri:
    """Raises BadMessage."""
    match = _URI.fullmatch(text)
    if match is None:
        raise BadMessage(400, 'An address has the wrong form')
    scheme = match[1].lower()
    if scheme not in SCHEMES:
        raise BadMessage(416, 'Only addresses with sip, sips, im and pres are known here')
    try:
        user = unquote_to_bytes(match[2] or '').decode()
    except UnicodeDecodeError:
        raise BadMessage(400, 'The user of an address is not UTF-8') from None
    return Uri(scheme, user, match[3].lower(), int(match[4]) if match[4] else None, parameters(match[5]))


def parameters(text: str) -> dict[str, str]:
    """``;name=value`` one after the other; quotes are taken off. Raises BadMessage."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or len(found) >= 32:
            raise BadMessage(400, 'The parameters of a header have the wrong form')
        value = match[2] or ''
        if value.startswith('"'):
            value = re.sub(r'\\(.)', r'\1', value[1:-1])
        found.setdefault(match[1].lower(), value)
        position = match.end()
    return found


def read_place(text: str) -> Place:
    """A header with one address. Raises BadMessage."""
    if match := _NAMED.match(text):
        return Place(match[1].strip(), parameters(text[match.end() :].strip()))
    uri, semicolon, rest = text.partition(';')  # without brackets the parameters are the header's (RFC 3261 20)
    return Place(uri.strip(), parameters(semicolon + rest))


def read_via(text: str) -> Via:
    """Raises BadMessage."""
    match = _VIA.match(text)
    if match is None:
        raise BadMessage(400, 'The topmost Via has the wrong form')
    return Via(match[1].upper(), match[2], int(match[3]) if match[3] else None, parameters(text[match.end() :]))


def to_jid(uri: Uri) -> str:
    """The bare JID of an address (RFC 7247 5.2): the user part escaped as XEP-0106 says. Raises BadMessage."""
    if not uri.user:
        raise BadMessage(404, 'The address names no user')
    try:
        return f'{jid.prepare_local(jid.escape_local(uri.user))}@{jid.prepare_domain(uri.host)}'
    except jid.InvalidJID:
        raise BadMessage(404, 'The address cannot be the address of a user') from None


def from_jid(bare: str) -> str:
    """``user@host`` of a JID, to be put behind a scheme (RFC 7247 5.1)."""
    local, _, domain = bare.partition('/')[0].rpartition('@')
    user = quote(jid.unescape_local(local), safe=_LOCAL)
    return f'{user}@{domain}' if user else domain
