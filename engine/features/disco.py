"""XEP-0030 and XEP-0128: what server and account can do, generated from the XEP table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.contract import jid
from engine.features.pubsub import pep
from engine.features.registry import OWN, XEPS, Own, Xep, account_nodes, iq, server_items, xep
from engine.features.version import NAME, version
from engine.services.presence_engine import visibility
from engine.store import rosters
from engine.xmpp import ns
from engine.xmpp.stanza import error, escape, iq_result

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

XEP = xep(30, '2.5', server=(ns.DISCO_INFO, ns.DISCO_ITEMS), account=(ns.DISCO_INFO, ns.DISCO_ITEMS))
EXTENSIONS = xep(128, '1.0.1')

SOFTWARE = 'urn:xmpp:dataforms:softwareinfo'
SERVER = ('server', 'im', NAME)
"""Category, type and name of the server's identity."""


def features(scope: str, router: XcpRouter) -> tuple[str, ...]:
    """Every announced feature of the 'server' or of an 'account', sorted."""
    declared: tuple[Xep | Own, ...] = (*XEPS.values(), *OWN)
    entries = [entry for entry in declared if entry.when is None or entry.when(router)]
    return tuple(sorted({feature for entry in entries for feature in getattr(entry, scope)}))


def form() -> tuple[tuple[str, str], ...]:
    """The extension form of the server: field and value, sorted (XEP-0232)."""
    return (('software', NAME), ('software_version', version()))


def server_info(router: XcpRouter) -> str:
    """Content of the server's disco#info result."""
    fields = ''.join(f"<field var='{key}'><value>{escape(value)}</value></field>" for key, value in form())
    hidden = f"<field var='FORM_TYPE' type='hidden'><value>{SOFTWARE}</value></field>"
    extension = f"<x xmlns='{ns.DATA_FORMS}' type='result'>{hidden}{fields}</x>"
    return _identity(*SERVER) + _features('server', router) + extension


def _identity(category: str, kind: str, name: str = '') -> str:
    named = f" name='{escape(name)}'" if name else ''
    return f"<identity category='{category}' type='{kind}'{named}/>"


def _features(scope: str, router: XcpRouter) -> str:
    return ''.join(f"<feature var='{escape(feature)}'/>" for feature in features(scope, router))


def _query(stanza: Stanza) -> Element:
    query = stanza.payload
    assert query is not None
    return query


@iq.on('get', ns.DISCO_INFO, 'query', 'host')
def on_server_info(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Identity, features and form; also under the node of the server's entity capabilities."""
    from engine.features import caps

    node = _query(stanza).get('node')
    if node and node != caps.node(router):
        return error(stanza, 'item-not-found')
    named = f" node='{escape(node)}'" if node else ''
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_INFO}'{named}>{server_info(router)}</query>".encode())


@iq.on('get', ns.DISCO_ITEMS, 'query', 'host')
def on_server_items(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Services of the domain. Chat rooms and the like add themselves when they exist."""
    if _query(stanza).get('node'):
        return error(stanza, 'item-not-found')
    items = b''.join(server_items.collect(router))
    return iq_result(stanza, b"<query xmlns='%b'>%b</query>" % (ns.DISCO_ITEMS.encode(), items))


@iq.on('get', ns.DISCO_INFO, 'query', 'self', 'bare')
async def on_account_info(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """An account, for its user and for those who see the user's availability (XEP-0030 8); or one of its nodes."""
    if node := _query(stanza).get('node'):
        if (answer := await _own_node(session, stanza, router, ns.DISCO_INFO, node)) is not None:
            return answer
        return await pep.info(session, stanza, router, node)
    if not await _may_ask(session, stanza, router):
        return error(stanza, 'service-unavailable')
    content = _identity('account', 'registered') + _identity('pubsub', 'pep') + _features('account', router)
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_INFO}'>{content}</query>".encode())


@iq.on('get', ns.DISCO_ITEMS, 'query', 'self', 'bare')
async def on_account_items(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The available clients of the user and the nodes of the account that the one who asks may see; of a node: its
    items."""
    if node := _query(stanza).get('node'):
        if (answer := await _own_node(session, stanza, router, ns.DISCO_ITEMS, node)) is not None:
            return answer
        return await pep.node_items(session, stanza, router, node)
    if not await _may_ask(session, stanza, router):
        return error(stanza, 'service-unavailable')
    bare = jid.bare(stanza.to) if stanza.to else session.bare
    items = ''.join(f"<item jid='{escape(s.jid)}'/>" for s in router.sessions_of(bare) if s.available)
    items += await pep.items(session, router, bare)
    return iq_result(stanza, f"<query xmlns='{ns.DISCO_ITEMS}'>{items}</query>".encode())


async def _own_node(session: Session, stanza: Stanza, router: XcpRouter, namespace: str, node: str) -> bytes | None:
    """A node that only the user of the account may look at; None: it is none of these."""
    handler = account_nodes.handlers.get((namespace, node))
    if handler is None:
        return None
    if stanza.to is not None and jid.bare(stanza.to) != session.bare:
        return error(stanza, 'forbidden', text='You can only look at your own account.')
    return await handler(session, stanza, router)


async def _may_ask(session: Session, stanza: Stanza, router: XcpRouter) -> bool:
    bare = jid.bare(stanza.to) if stanza.to else session.bare
    if bare == session.bare:
        return True
    engine = router.presence_engine()
    if engine is None or not engine.sharing:
        return False
    if bare in engine.people:
        return visibility.sees(engine, session.bare, bare)
    return bool(await rosters.subscription(router.node.store, bare, session.bare) & rosters.FROM)
