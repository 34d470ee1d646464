"""Server dialback (XEP-0220): keys and elements."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

from engine.xmpp import ns
from engine.xmpp.stanza import ERROR_TYPES, escape, quote

KEY_LENGTH: Final = 1024
"""Characters of a key; ours have 64."""


def key(secret: str, receiving: str, originating: str, stream_id: str) -> str:
    """The key of XEP-0185: every node that has ``secret`` makes, and can verify, the same."""
    inner = hashlib.sha256(secret.encode()).hexdigest().encode()
    return hmac.new(inner, f'{receiving} {originating} {stream_id}'.encode(), hashlib.sha256).hexdigest()


def is_right(secret: str, receiving: str, originating: str, stream_id: str, given: str) -> bool:
    """Whether ``given`` is our key for that stream."""
    return hmac.compare_digest(key(secret, receiving, originating, stream_id).encode(), given.strip().encode())


class Answer(NamedTuple):
    """How a dialback request ended. ``condition`` is '' when the key is valid, 'invalid' when it is not, else the
    stanza error condition that says why nobody knows (XEP-0220 2.4)."""

    condition: str = ''
    text: str = ''

    @property
    def valid(self) -> bool:
        """Whether the key was found right."""
        return not self.condition


def element(name: str, from_: str, to: str, content: str = '', id: str = '', answer: Answer | None = None) -> bytes:
    """A ``db:result`` or ``db:verify``; with ``answer`` the reply to one."""
    head = f"<db:{name} from='{quote(from_)}' to='{quote(to)}'" + (f" id='{quote(id)}'" if id else '')
    if answer is None:
        return f'{head}>{escape(content)}</db:{name}>'.encode()
    if answer.condition in ('', 'invalid'):
        return f"{head} type='{answer.condition or 'valid'}'/>".encode()
    words = f"<text xmlns='{ns.STANZA_ERRORS}'>{escape(answer.text)}</text>" if answer.text else ''
    kind = ERROR_TYPES[answer.condition]
    error = f"<error type='{kind}'><{answer.condition} xmlns='{ns.STANZA_ERRORS}'/>{words}</error>"
    return f"{head} type='error'>{error}</db:{name}>".encode()


def read_answer(kind: str, tree: Element) -> Answer:
    """The answer in a reply of this type."""
    if kind == 'valid':
        return Answer()
    if kind != 'error':
        return Answer('invalid')
    prefix = f'{{{ns.STANZA_ERRORS}}}'
    found = [child for child in tree.iter() if child.tag.startswith(prefix)]
    names = [child.tag.removeprefix(prefix) for child in found]
    text = next((child.text or '' for child in found if child.tag == f'{prefix}text'), '')
    condition = next((name for name in names if name in ERROR_TYPES), 'undefined-condition')
    return Answer(condition, text[:200])
