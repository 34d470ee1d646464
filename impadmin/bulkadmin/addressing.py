"""Addresses in files: as people write them, user part unescaped (XEP-0106), split at the last ``@``."""

from __future__ import annotations

from functools import lru_cache

from engine.contract.jid import InvalidJID, escape_local, prepare_domain, prepare_local, unescape_local

LENGTH = 255
"""Longest address in a file, in characters (guide 11117; the other files by the same rule)."""
_ESCAPED = frozenset(' "&\'/:<>@')


@lru_cache(maxsize=100_000)
def prepared(text: str) -> str | None:
    """The bare JID, a domain alone included; None when it is none."""
    local, at, domain = text.rpartition('@')
    try:
        if not at:
            return prepare_domain(domain) if domain else None
        return (
            f'{prepare_local(escape_local(local) if _ESCAPED.intersection(local) else local)}@{prepare_domain(domain)}'
        )
    except InvalidJID:
        return None


def shown(jid: str) -> str:
    """A bare JID as a file writes it, so that ``prepared`` gives it back."""
    local, at, domain = jid.rpartition('@')
    if not at or '\\' not in local:
        return jid
    text = f'{unescape_local(local)}@{domain}'
    return text if prepared(text) == jid else jid
