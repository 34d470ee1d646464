"""Privacy lists (XEP-0016) and the block list in front of them (XEP-0191) as plain data: reading, writing, deciding.

One store serves both protocols: the block list is the items of the default list that deny one address everything.
Deciding costs one look-up for each form of the peer's address (full, bare, domain/resource, domain, parent domains),
however long the list is: about 1.5 microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from engine.contract import jid

NS: Final = 'jabber:iq:privacy'
BLOCKING: Final = 'urn:xmpp:blocking'
Direction = Literal['in', 'out']
Kind = Literal['message', 'iq', 'presence', 'subscription']

MESSAGE, IQ, PRESENCE_IN, PRESENCE_OUT = 1, 2, 4, 8
ALL: Final = 0
"""Kinds of an item: a sum of those above, or ALL: also what the user sends and subscriptions."""
CHILDREN: Final = {'message': MESSAGE, 'iq': IQ, 'presence-in': PRESENCE_IN, 'presence-out': PRESENCE_OUT}
_COLUMN: Final[dict[tuple[str, str], int]] = {
    ('in', 'message'): MESSAGE, ('in', 'iq'): IQ, ('in', 'presence'): PRESENCE_IN, ('out', 'presence'): PRESENCE_OUT,
}  # fmt: skip
"""Everything else is matched by items for ALL only."""
NONE, TO, FROM, BOTH = 0, 1, 2, 3
SUBSCRIPTIONS: Final = {'none': NONE, 'to': TO, 'from': FROM, 'both': BOTH}
NAME_LENGTH: Final = 255
GROUP_LENGTH: Final = 1023
ORDERS: Final = 2**32
_ENTITIES: Final = {"'": '&apos;', '"': '&quot;', '\n': '&#10;', '\t': '&#9;', '\r': '&#13;'}
BLOCK_LIST: Final = 'blocklist'
"""Name of the default list that the first block creates."""

Relation = Callable[[str], tuple[int, Collection[str]]]
"""Bare JID -> (subscription bits, groups) in the owner's contact list; (0, ()) for a stranger."""


class Item(NamedTuple):
    """One rule. ``type`` is jid, group, subscription or '' (everybody); ``kinds`` see above."""

    order: int
    type: str
    value: str
    allow: bool
    kinds: int = ALL

    @property
    def blocks(self) -> bool:
        """Whether it is an entry of the block list."""
        return self.type == 'jid' and not self.allow and self.kinds == ALL


class PrivacyError(ValueError):
    """A list is not as it must be. ``condition`` is the stanza error condition."""

    def __init__(self, condition: str, text: str) -> None:
        super().__init__(text)
        self.condition = condition


class Rules:
    """A list made ready to decide. ``needs_roster``: some item asks for groups or subscriptions."""

    __slots__ = ('_columns', 'items', 'name', 'needs_roster')

    def __init__(self, name: str, items: Iterable[Item]) -> None:
        self.name = name
        self.items = tuple(sorted(items))
        self.needs_roster = any(item.type in ('group', 'subscription') for item in self.items)
        self._columns: dict[int, _Column] = {}
        for column in (MESSAGE, IQ, PRESENCE_IN, PRESENCE_OUT, ALL):
            relevant = [item for item in self.items if item.kinds == ALL or item.kinds & column]
            self._columns[column] = _Column(relevant)

    def allows(self, direction: Direction, kind: Kind, peer: str, relation: Relation) -> bool:
        """Whether a stanza of ``kind`` may pass between the owner and ``peer`` (a JID as anybody wrote it).

        An address that is none passes: the router refuses it.
        """
        column = self._columns[_COLUMN.get((direction, kind), ALL)]
        best, allow = column.rest
        for form in forms(peer):
            found = column.jids.get(form)
            if found is not None and found[0] < best:
                best, allow = found
        if column.groups or column.subscriptions:
            subscription, groups = relation(_bare(peer))
            found = column.subscriptions.get(subscription)
            if found is not None and found[0] < best:
                best, allow = found
            for group in groups:
                found = column.groups.get(group)
                if found is not None and found[0] < best:
                    best, allow = found
        return allow


class _Column:
    """The items that speak about one kind of stanza: value -> (order, allow) of the first item with it."""

    __slots__ = ('groups', 'jids', 'rest', 'subscriptions')

    def __init__(self, items: Sequence[Item]) -> None:
        self.jids: dict[str, tuple[int, bool]] = {}
        self.groups: dict[str, tuple[int, bool]] = {}
        self.subscriptions: dict[int, tuple[int, bool]] = {}
        self.rest = (ORDERS, True)
        for item in items:
            verdict = (item.order, item.allow)
            if item.type == 'jid':
                self.jids.setdefault(item.value, verdict)
            elif item.type == 'group':
                self.groups.setdefault(item.value, verdict)
            elif item.type == 'subscription':
                self.subscriptions.setdefault(SUBSCRIPTIONS[item.value], verdict)
            else:
                self.rest = verdict
                break  # nothing behind it is ever reached


@lru_cache(maxsize=10_000)
def _forms(peer: str) -> tuple[str, ...]:
    try:
        local, domain, resource = jid.split(peer)
    except jid.InvalidJID:
        return ()
    bare = f'{local}@{domain}' if local else domain
    found = [f'{bare}/{resource}'] if resource else []
    if local:
        found.append(bare)
        if resource:
            found.append(f'{domain}/{resource}')
    found.append(domain)
    parent = domain.partition('.')[2]
    while parent:
        found.append(parent)
        parent = parent.partition('.')[2]
    return tuple(found)


def _quote(text: str) -> str:
    return escape(text, _ENTITIES)


def forms(peer: str) -> tuple[str, ...]:
    """Every value of an item of the type jid that means ``peer``, the most exact first (XEP-0016 2.1)."""
    return _forms(peer) if len(peer) <= 200 else _forms.__wrapped__(peer)


def _bare(peer: str) -> str:
    try:
        return jid.bare(peer)
    except jid.InvalidJID:
        return peer


def read_list(element: Element, most: int) -> tuple[str, tuple[Item, ...]]:
    """(name, items) of a <list/>. Raises PrivacyError."""
    name = list_name(element)
    items: list[Item] = []
    orders: set[int] = set()
    for child in element:
        if child.tag != f'{{{NS}}}item':
            continue
        if len(items) >= most:
            raise PrivacyError('resource-constraint', f'A privacy list has at most {most} items.')
        item = _read_item(child)
        if item.order in orders:
            raise PrivacyError('bad-request', f'Two items have the order {item.order}.')
        orders.add(item.order)
        items.append(item)
    return name, tuple(sorted(items))


def list_name(element: Element) -> str:
    """The name attribute. Raises PrivacyError."""
    name = element.get('name', '')
    if not 0 < len(name) <= NAME_LENGTH:
        raise PrivacyError('bad-request', f'The name of a privacy list has 1 to {NAME_LENGTH} characters.')
    return name


def _read_item(element: Element) -> Item:
    action = element.get('action')
    if action not in ('allow', 'deny'):
        raise PrivacyError('bad-request', "Every item needs the action 'allow' or 'deny'.")
    order = element.get('order', '')
    if not (order.isascii() and order.isdigit() and len(order) <= 10 and int(order) < ORDERS):
        raise PrivacyError('bad-request', f'Every item needs an order from 0 to {ORDERS - 1}.')
    kind = element.get('type', '')
    value = element.get('value', '')
    if kind == 'jid':
        value = read_jid(value)
    elif kind == 'group':
        if not 0 < len(value) <= GROUP_LENGTH:
            raise PrivacyError('bad-request', f'The name of a group has 1 to {GROUP_LENGTH} characters.')
    elif kind == 'subscription':
        if value not in SUBSCRIPTIONS:
            raise PrivacyError('bad-request', f'A subscription is one of: {", ".join(SUBSCRIPTIONS)}.')
    elif kind:
        raise PrivacyError('bad-request', 'The type of an item is one of: jid, group, subscription; or it has none.')
    elif value:
        raise PrivacyError('bad-request', 'An item without a type has no value.')
    kinds = ALL
    for child in element:
        bit = CHILDREN.get(child.tag.removeprefix(f'{{{NS}}}'))
        if bit is None:
            raise PrivacyError('bad-request', f'An item has no other children than {", ".join(CHILDREN)}.')
        kinds |= bit
    return Item(int(order), kind, value, action == 'allow', kinds)


def read_jid(text: str) -> str:
    """A prepared address. Raises PrivacyError."""
    try:
        return jid.prepare(text)
    except jid.InvalidJID as error:
        raise PrivacyError('jid-malformed', f'{error}.') from None


def list_xml(name: str, items: Iterable[Item] = ()) -> str:
    """The <list/>."""
    inside = ''.join(_item_xml(item) for item in items)
    return f"<list name='{_quote(name)}'>{inside}</list>" if inside else f"<list name='{_quote(name)}'/>"


def _item_xml(item: Item) -> str:
    matched = f" type='{item.type}' value='{_quote(item.value)}'" if item.type else ''
    head = f"<item{matched} action='{'allow' if item.allow else 'deny'}' order='{item.order}'"
    children = ''.join(f'<{name}/>' for name, bit in CHILDREN.items() if item.kinds & bit)
    return f'{head}>{children}</item>' if children else f'{head}/>'


def blocked(items: Iterable[Item]) -> list[str]:
    """The block list that a default list stands for."""
    return list(dict.fromkeys(item.value for item in items if item.blocks))


def block(items: Sequence[Item], addresses: Iterable[str]) -> tuple[Item, ...]:
    """``items`` with ``addresses`` blocked: in front of everything else (XEP-0191 3), numbered anew from 1."""
    known = set(blocked(items))
    added = [Item(0, 'jid', address, False) for address in dict.fromkeys(addresses) if address not in known]
    before = [item for item in sorted(items) if item.blocks]
    after = [item for item in sorted(items) if not item.blocks]
    return _numbered([*before, *added, *after])


def unblock(items: Sequence[Item], addresses: Collection[str] | None) -> tuple[Item, ...]:
    """``items`` without the blocks of ``addresses``; None: of everybody."""
    return tuple(
        item for item in items if not (item.blocks and (addresses is None or item.value in addresses))
    )  # fmt: skip


def _numbered(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(item._replace(order=number) for number, item in enumerate(items, 1))
