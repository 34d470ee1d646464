"""What a client asked the server to keep away from it (XEP-0273), as plain data: reading and deciding."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple
from xml.etree.ElementTree import Element

from engine.xmpp.stanza import parse_tree

NS: Final = 'urn:xmpp:sift:2'
Kind = Literal['iq', 'message', 'presence', 'sub']
KINDS: Final = ('iq', 'message', 'presence', 'sub')
SENDERS: Final = ('all', 'local', 'others', 'remote', 'self')
RECIPIENTS: Final = ('all', 'bare', 'full')
ALLOWED: Final = 50
"""Most <allow/> elements of one kind."""


class SiftError(ValueError):
    """The request is malformed, or asks for more than there is; the message says where. ``condition`` is that of the
    answer."""

    def __init__(self, text: str, condition: str = 'bad-request') -> None:
        super().__init__(text)
        self.condition = condition


class Rule(NamedTuple):
    """Stanzas of one kind that do not reach the client. ``allow``: '{namespace}name' of payloads that do."""

    sender: str = 'all'
    recipient: str = 'all'
    allow: frozenset[str] = frozenset()


Sift = dict[str, Rule]
"""Kind -> rule; a kind that is not there passes."""


def read(element: Element) -> Sift:
    """The rules of a <sift/>; empty: nothing is sifted. Raises SiftError."""
    rules: Sift = {}
    for child in element:
        kind = child.tag.removeprefix(f'{{{NS}}}')
        if kind not in KINDS:
            raise SiftError(f'What can be sifted is: {", ".join(KINDS)}.')
        if kind in rules:
            raise SiftError(f'<{kind}/> is there twice.')
        sender, recipient = child.get('sender', 'all'), child.get('recipient', 'all')
        if sender not in SENDERS:
            raise SiftError(f'The sender is one of: {", ".join(SENDERS)}.')
        if recipient not in RECIPIENTS:
            raise SiftError(f'The recipient is one of: {", ".join(RECIPIENTS)}.')
        if len(child) > ALLOWED:
            raise SiftError(f'At most {ALLOWED} payloads can be allowed.', 'resource-constraint')
        rules[kind] = Rule(sender, recipient, frozenset(_payload(entry) for entry in child))
    return rules


def _payload(element: Element) -> str:
    name, namespace = element.get('name', ''), element.get('ns', '')
    if not element.tag.startswith(f'{{{NS}}}'):
        raise SiftError('Payloads are matched by <allow/> only, with name and namespace.', 'feature-not-implemented')
    if element.tag != f'{{{NS}}}allow' or not name or not namespace:
        raise SiftError("A payload is allowed with <allow/> and its attributes 'name' and 'ns'.")
    return f'{{{namespace}}}{name}'


def passes(rules: Sift, kind: Kind, owner: str, sender: str, to_bare: bool, raw: bytes) -> bool:
    """Whether a stanza reaches the client. ``owner`` is the client's bare JID, ``sender`` any prepared JID;
    ``to_bare``: the stanza is for the bare JID."""
    rule = rules.get(kind)
    if rule is None:
        return True
    if rule.recipient != 'all' and (rule.recipient == 'bare') != to_bare:
        return True
    if rule.sender != 'all' and not _concerns(rule.sender, owner, sender.partition('/')[0]):
        return True
    return bool(rule.allow) and any(child.tag in rule.allow for child in parse_tree(raw))


def _concerns(which: str, owner: str, sender: str) -> bool:
    if which in ('self', 'others'):
        return (sender == owner) == (which == 'self')
    return (sender.rpartition('@')[2] == owner.rpartition('@')[2]) == (which == 'local')
