"""Which messages are copied between the clients of one user, and who of them gets what (XEP-0280, guide 6853-6906).

Multi-Device Messaging. A message to a user goes to every client that enabled it: as the message itself to the active
client, which notifies its user, and as a copy (<received/>) to the others, which do not; while none is active, as the
message itself to all. Clients that did not enable it get what they get without it: the reply lock decides among them.
What a client sends is copied (<sent/>) to the user's other clients. A chat marker or receipt is a message too, so what
was read on one device is marked read on all.

The copy is built once, as bytes before and after each receiver's address. Nothing here runs for users whose clients
all do without.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from time import monotonic
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from engine import filters
from engine.delivery import NOW, also_given_to
from engine.recent import remember
from engine.services.xcp_router.account import COPIED
from engine.xmpp import ns
from engine.xmpp.forwarding import address, carbon, without
from engine.xmpp.stanza import with_child

if TYPE_CHECKING:
    from engine.services.xcp_router.account import Account
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

INVITATION = 'jabber:x:conference'
MARKERS = 'urn:xmpp:chat-markers:0'
NOTIFY = 'urn:imp:mdm:0'
LOUD = f"<notify xmlns='{NOTIFY}' value='true'/>".encode()
QUIET = f"<notify xmlns='{NOTIFY}' value='false'/>".encode()
_PAYLOADS = tuple(
    f'{{{namespace}}}' for namespace in (ns.CHAT_STATES, ns.RECEIPTS, MARKERS, INVITATION, ns.OUT_OF_BAND)
)
"""What else makes a message of the type normal an instant message (XEP-0280 6.1)."""
_PRIVATE = f'{ns.CARBONS} private'
_BODY = f'{{{ns.CLIENT}}}body'
_INVITE = f'{{{ns.MUC_USER}}}invite'
_NS_CARBONS, _NS_HINTS, _NS_MUC = ns.CARBONS.encode(), ns.HINTS.encode(), ns.MUC_USER.encode()


def hint(stanza: Stanza, *names: str) -> bool:
    """Whether the message carries one of these hints (XEP-0334)."""
    return stanza.has(_NS_HINTS) and any(stanza.child(ns.HINTS, name) is not None for name in names)


def _room(stanza: Stanza) -> Element | None:
    """What a room, or somebody in one, has marked a message with."""
    return stanza.child(ns.MUC_USER, 'x') if stanza.has(_NS_MUC) else None


def in_room(stanza: Stanza) -> bool:
    """Whether a message is a private one within a room: for the client that is there. An invitation is for the user."""
    room = _room(stanza)
    return room is not None and room.find(_INVITE) is None


def eligible(stanza: Stanza, kind: str, sent: bool) -> bool:
    """Whether a message is copied to the other clients of its sender (``sent``) or its receiver."""
    raw = stanza.raw
    if _NS_CARBONS in raw and stanza.child(ns.CARBONS, 'private') is not None:
        return False
    if hint(stanza, 'no-copy'):
        return False
    if (room := _room(stanza)) is not None:
        return sent or room.find(_INVITE) is not None
    if kind == 'chat':
        return True
    return kind == 'normal' and _is_im(stanza.tree)


def _is_im(message: Element) -> bool:
    return any(child.tag == _BODY or child.tag.startswith(_PAYLOADS) for child in message)


def cleaned(stanza: Stanza) -> bytes:
    """The bytes for receivers, without <private/> (XEP-0280 9)."""
    if _NS_CARBONS not in stanza.raw or stanza.child(ns.CARBONS, 'private') is None:
        return stanza.raw
    return without(stanza.raw, lambda name, _attributes: name == _PRIVATE)


def arriving(
    router: XcpRouter, account: Account, target: Session | None, sender: str, raw: bytes, kind: str, copied: bool
) -> bool:
    """Give a message to the clients of its receiver; False when none of them takes it.

    ``target`` is the client it is addressed to, None: the user. ``sender`` is the full JID, ``raw`` what the clients
    get, ``copied`` whether others than the addressee may get copies.
    """
    active = account.active_session(router.mdm_active_s) if account.carbons else None
    originals: tuple[Session, ...]
    if target is not None:
        originals = (target,)
    else:
        originals = _forked(router, account, sender.partition('/')[0], kind, active if copied else None)
    if account.filter is not None:
        originals = tuple(
            session for session in originals if filters.takes_message(session, sender, raw, target is None)
        )
    if not originals:
        return False
    for session in originals:
        if target is not None and copied and active is not None and active is not session and session.carbons:
            session.send(with_child(raw, QUIET))
        else:
            session.send(raw)
    if copied and account.carbons:
        others = [
            session
            for session in account.sessions.values()
            if session.carbons and session not in originals and session.jid != sender
        ]
        if account.filter is not None:
            others = [session for session in others if filters.takes_message(session, sender, raw, target is None)]
        if others:
            _send(router, account, 'received', raw, kind, others, active, loud=target is not None)
        originals = (*originals, *others)
    if NOW.delivery is not None:
        also_given_to(account.user.bare, originals)
    return True


def _forked(router: XcpRouter, account: Account, sender: str, kind: str, active: Session | None) -> tuple[Session, ...]:
    """The clients that get a message to the user itself: of those with Multi-Device Messaging the active one or all, of
    the others the one with the reply lock or all."""
    available = [one for one in account.sessions.values() if one.priority is not None and one.priority >= 0]
    chosen = [session for session in available if session.carbons]
    if active in chosen:
        chosen = [session for session in chosen if session is active]
    single = [session for session in available if not session.carbons]
    if single and kind == 'chat' and account.locks and (lock := account.locks.get(sender)):
        holder, at = lock
        now = monotonic()
        if now - at < router.reply_lock_s and holder in available:
            account.locks[sender] = (holder, now)
            single = [session for session in single if session is holder]
        else:
            del account.locks[sender]
    return (*chosen, *single)


def sent(router: XcpRouter, account: Account, session: Session, raw: bytes, stanza: Stanza, to: str, kind: str) -> None:
    """Copy what ``session`` sent to the user's other clients. ``to`` is the bare JID it went to, not the user's own."""
    others = [other for other in account.sessions.values() if other.carbons and other is not session]
    if account.filter is not None:
        others = [other for other in others if filters.takes_message(other, session.jid, raw, to_bare=False)]
    if not others:
        return
    _send(router, account, 'sent', raw, kind, others, None, loud=False)
    if stanza.id and len(stanza.id) <= 100:
        if account.copied is None:
            account.copied = OrderedDict()
        remember(account.copied, stanza.id, to, COPIED)


def failed(
    router: XcpRouter, account: Account, addressee: Session, identity: str | None, sender: str, raw: bytes
) -> None:
    """An error for ``addressee``: those who got a copy of the message get one of the error (XEP-0280 6.1). ``sender``
    is the bare JID it comes from."""
    if account.copied and identity is not None and account.copied.get(identity) == sender:
        del account.copied[identity]
        others = [session for session in account.sessions.values() if session.carbons and session is not addressee]
        if others:
            _send(router, account, 'received', raw, 'error', others, None, loud=False)


def _send(
    router: XcpRouter, account: Account, direction: str, raw: bytes, kind: str, receivers: Collection[Session],
    active: Session | None, loud: bool,
) -> None:  # fmt: skip
    """A copy for each of ``receivers``. ``loud``: those that should notify are told (see ``NOTIFY``): the active one,
    or all while none is active."""
    router.node.counters.messages_copied += len(receivers)
    head, tail = carbon(direction, raw, account.user.bare, kind)
    for session in receivers:
        end = tail
        if loud and (active is None or active is session):
            end = tail[: -len(b'</message>')] + LOUD + b'</message>'
        session.send(b'%b%b%b' % (head, address(session.jid), end))
