"""JIDs: preparation (RFC 7622 with the RFC 6122 fallbacks clients expect), escaping (XEP-0106), IM addresses."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import idna
from precis_i18n import get_profile

_USERNAME = get_profile('UsernameCaseMapped')
_RESOURCE = get_profile('OpaqueString')
_FORBIDDEN_LOCAL = frozenset('"&\'/:<>@')
_ASCII_LOCAL = re.compile(r'[a-z0-9._\-+!#$%*=?^`{|}~\\()\[\],;]+')
_ASCII_DOMAIN = re.compile(
    r'(?=.{1,255}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*'
)
_ESCAPES = {
    ' ': '\\20', '"': '\\22', '&': '\\26', "'": '\\27', '/': '\\2f',
    ':': '\\3a', '<': '\\3c', '>': '\\3e', '@': '\\40',
}  # fmt: skip
_UNESCAPE = re.compile(r'\\(20|22|26|27|2f|3a|3c|3e|40|5c)')
_ESCAPED_BACKSLASH = re.compile(r'\\(?=20|22|26|27|2f|3a|3c|3e|40|5c)')


PART = 1023
"""Bytes each part may have (RFC 7622 3.2 to 3.4). Checked before anything is prepared: preparing is so slow that one
address as long as a whole stanza would hold up everybody else."""
_SHOWN = 60


class InvalidJID(ValueError):
    """The text is no JID; the message says which part is wrong."""


def _shown(part: str) -> str:
    """``part`` as an error message quotes it: not longer than a line."""
    return repr(part if len(part) <= _SHOWN else f'{part[:_SHOWN]}…')


def prepare_local(local: str) -> str:
    """Prepared localpart. Raises InvalidJID."""
    if len(local) > PART:
        raise InvalidJID(f'the user part must have 1 to {PART} bytes')
    folded = local.lower()
    if _ASCII_LOCAL.fullmatch(folded):
        return folded
    if _FORBIDDEN_LOCAL.intersection(local):
        raise InvalidJID(f'the user part {_shown(local)} has a character that is not allowed')
    try:
        prepared = _USERNAME.enforce(local)
    except (UnicodeError, ValueError) as error:
        raise InvalidJID(f'the user part {_shown(local)} is not valid') from error
    if _FORBIDDEN_LOCAL.intersection(prepared):  # preparing makes '/' of its full-width form
        raise InvalidJID(f'the user part {_shown(local)} has a character that is not allowed')
    if not 0 < len(prepared.encode()) <= PART:
        raise InvalidJID(f'the user part must have 1 to {PART} bytes')
    return prepared


def prepare_domain(domain: str) -> str:
    """Prepared domainpart: lower case, IDNA A-labels turned into what RFC 7622 compares. Raises InvalidJID."""
    if len(domain) > PART:
        raise InvalidJID(f'the domain must have 1 to {PART} bytes')
    folded = domain.lower().rstrip('.')
    if _ASCII_DOMAIN.fullmatch(folded):
        return folded
    try:
        if folded.startswith('[') and folded.endswith(']'):
            address = folded[1:-1].replace('%', '/')  # no scope: it may hold anything
            return f'[{ipaddress.IPv6Address(address).compressed}]'
        return idna.encode(folded, uts46=True).decode()
    except ValueError as error:  # also what idna raises
        raise InvalidJID(f'the domain {_shown(domain)} is not valid') from error


def prepare_resource(resource: str) -> str:
    """Prepared resourcepart. Raises InvalidJID."""
    if len(resource) > PART:
        raise InvalidJID(f'the resource must have 1 to {PART} bytes')
    if resource.isascii() and resource.isprintable() and resource:
        return resource
    try:
        prepared = _RESOURCE.enforce(resource)
    except (UnicodeError, ValueError) as error:
        raise InvalidJID('the resource is not valid') from error
    if not 0 < len(prepared.encode()) <= PART:
        raise InvalidJID(f'the resource must have 1 to {PART} bytes')
    return prepared


def split(jid: str) -> tuple[str, str, str]:
    """(localpart, domainpart, resourcepart), each prepared; absent parts are ''. Raises InvalidJID."""
    return _split_cached(jid) if len(jid) <= _CACHED_LENGTH else _split(jid)


def _split(jid: str) -> tuple[str, str, str]:
    bare, slash, resource = jid.partition('/')
    if slash and not resource:
        raise InvalidJID('the resource is empty')
    local, at, domain = bare.rpartition('@')
    if at and not local:
        raise InvalidJID('the user part is empty')
    if not domain:
        raise InvalidJID('the domain is empty')
    return (
        prepare_local(local) if local else '',
        prepare_domain(domain),
        prepare_resource(resource) if resource else '',
    )


_CACHED_LENGTH = 200
"""Longer addresses are prepared anew each time, so that nobody can fill the memory with ever new long ones."""
_split_cached = lru_cache(maxsize=100_000)(_split)


def bare(jid: str) -> str:
    """The prepared bare JID of ``jid``. Raises InvalidJID."""
    local, domain, _ = split(jid)
    return f'{local}@{domain}' if local else domain


def prepare(jid: str) -> str:
    """The prepared full form of ``jid``. Raises InvalidJID."""
    local, domain, resource = split(jid)
    text = f'{local}@{domain}' if local else domain
    return f'{text}/{resource}' if resource else text


def escape_local(text: str) -> str:
    """XEP-0106: a user ID as a localpart (``a@b`` gives ``a\\40b``)."""
    text = _ESCAPED_BACKSLASH.sub(r'\\5c', text.strip())
    return ''.join(_ESCAPES.get(char, char) for char in text)


def unescape_local(local: str) -> str:
    """XEP-0106: a localpart as people read it."""
    return _UNESCAPE.sub(lambda match: chr(int(match.group(1), 16)), local)


def im_address(scheme: str, default_domain: str, user_id: str, directory_uri: str) -> str:
    """The prepared bare JID of a user under an address scheme, or '' when the scheme gives none (guide 1647-1702).

    ``userid``: escaped user ID at the default domain. ``directory_uri``: the Directory URI, split at the last ``@``.
    """
    if scheme == 'userid':
        local, domain = user_id, default_domain
    else:
        local, at, domain = directory_uri.strip().rpartition('@')
        if not at or not local or not domain:
            return ''
    try:
        return f'{prepare_local(escape_local(local))}@{prepare_domain(domain)}'
    except InvalidJID:
        return ''
