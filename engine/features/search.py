"""XEP-0055: searching the directory, at ``search.DEFAULT-DOMAIN``, while Cisco XCP Directory Service runs.

A term matches the beginning of a value, upper and lower case alike; a ``*`` at its end is not needed and ignored, every
other character stands for itself. At least one field must be filled in. Who blocks the asking user is not found. Only
users of this cluster may search. Clients with data forms get a table, others the old fields.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary
from xml.etree import ElementTree

import structlog

from engine.contract import jid as jids
from engine.contract.services import DIRECTORY
from engine.features.registry import router_started, router_stopped, server_items, xep
from engine.store import directory
from engine.store.pool import Unavailable
from engine.xmpp import forms, ns
from engine.xmpp import stanza as xml
from engine.xmpp.forms import Field, Form, FormError
from engine.xmpp.stanza import element, error, iq_result, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.services.directory import DirectoryService
    from engine.services.xcp_router.remote import Failed
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

NS: Final = 'jabber:iq:search'
XEP = xep(55, '1.3')

log = structlog.get_logger(__name__)
FIELDS: Final = {
    'first': Field('first', label='First Name'),
    'last': Field('last', label='Last Name'),
    'nick': Field('nick', label='Display Name'),
    'email': Field('email', label='Email'),
    'x-user-id': Field('x-user-id', label='User ID'),
}
OLD_FIELDS: Final = ('first', 'last', 'nick', 'email')
"""Those that exist without a data form."""
LENGTH: Final = 255
INSTRUCTIONS: Final = 'Fill in at least one field. What you enter is searched at the beginning of the value.'
NAME: Final = 'Directory'
PARALLEL: Final = 2
"""Searches of all clients at one time: they read many rows, and sign-ins need the database too."""


class Directory:
    """Takes stanzas like any other Route; requests of one client are answered in their order."""

    def __init__(self, router: XcpRouter, address: str) -> None:
        self.router = router
        self.address = address
        self._waiting: dict[Session, deque[Stanza]] = {}
        self._places = asyncio.Semaphore(PARALLEL)

    @property
    def service(self) -> DirectoryService | None:
        """The service while it runs."""
        from engine.services.directory import DirectoryService

        service = self.router.node.service(DIRECTORY)
        return service if isinstance(service, DirectoryService) else None

    def send(self, raw: bytes, sender: str, to: str, failed: Failed | None) -> None:
        """One stanza for the directory."""
        try:
            stanza = xml.parse(raw)
        except ElementTree.ParseError:
            return
        if stanza.type in ('error', 'result', 'unavailable'):
            return
        refusal = self._refusal(stanza, sender, to)
        if refusal is not None:
            if failed is not None:
                failed(*refusal)
            return
        session = self.router.full[sender]
        session.begin(len(raw))
        queue = self._waiting.get(session)
        if queue is None:
            queue = self._waiting[session] = deque()
            self.router.node.spawn(self._work(session, queue), f'directory requests of {sender}')
        queue.append(stanza)

    def _refusal(self, stanza: Stanza, sender: str, to: str) -> tuple[str, str] | None:
        if self.service is None:
            return 'service-unavailable', 'Cisco XCP Directory Service is not running.'
        if stanza.name != 'iq' or to != self.address:
            return 'service-unavailable', 'The directory answers requests only.'
        if sender not in self.router.full:
            return 'forbidden', 'Only users of this server search the directory.'
        return None

    async def _work(self, session: Session, queue: deque[Stanza]) -> None:
        try:
            while queue:
                stanza = queue.popleft()
                try:
                    session.send(await self._answer(session, stanza))
                finally:
                    session.finish(len(stanza.raw))
        finally:
            del self._waiting[session]

    async def _answer(self, session: Session, stanza: Stanza) -> bytes:
        service, payload = self.service, stanza.payload
        if service is None or payload is None:
            return error(stanza, 'service-unavailable')
        name = payload.tag
        if name == f'{{{NS}}}query' and stanza.type == 'get':
            return iq_result(stanza, _form())
        if name == f'{{{NS}}}query':
            try:
                return await self._search(service, session, stanza)
            except FormError as problem:
                return error(stanza, 'bad-request', text=str(problem))
            except Unavailable:
                text = 'The directory cannot be searched now. Try again later.'
                return error(stanza, 'internal-server-error', 'wait', text)
            except Exception:
                log.exception('directory search failed', jid=session.jid)
                return error(stanza, 'internal-server-error')
        if stanza.type == 'get' and not payload.get('node'):
            if name == f'{{{ns.DISCO_INFO}}}query':
                return iq_result(stanza, _info())
            if name == f'{{{ns.DISCO_ITEMS}}}query':
                return iq_result(stanza, f"<query xmlns='{ns.DISCO_ITEMS}'/>".encode())
            if name == f'{{{ns.PING}}}ping':
                return iq_result(stanza)
        return error(stanza, 'service-unavailable')

    async def _search(self, service: DirectoryService, session: Session, stanza: Stanza) -> bytes:
        query = stanza.payload
        assert query is not None
        form = forms.find(query)
        terms = _terms(query) if form is None else _submitted(form)
        if not terms:
            raise FormError('Fill in at least one field.')
        limit = int(service.param('max_results'))
        async with self._places:
            found, more = await directory.search(self.router.node.store, terms, limit, session.jid)
        if form is not None:
            rows = tuple(
                {'jid': (hit.jid,)} | {var: (value,) for var, value in zip(directory.COLUMNS, hit.values, strict=True)}
                for hit in found
            )
            note = (f'There are more than {limit}; these are the first. Enter more to find fewer.',) if more else ()
            columns = (Field('jid', 'jid-single', label='Jabber ID'), *FIELDS.values())
            content = Form('result', (forms.hidden(NS),), '', note, columns, rows).xml()
        else:
            content = ''.join(_old_item(hit) for hit in found)
        return iq_result(stanza, f"<query xmlns='{NS}'>{content}</query>".encode())


def _form() -> bytes:
    old = ''.join(f'<{name}/>' for name in OLD_FIELDS)
    form = Form('form', (forms.hidden(NS), *FIELDS.values()), 'Directory search', (INSTRUCTIONS,)).xml()
    return f"<query xmlns='{NS}'>{element('instructions', '', INSTRUCTIONS)}{old}{form}</query>".encode()


def _info() -> bytes:
    features = ''.join(f"<feature var='{feature}'/>" for feature in (ns.DISCO_INFO, ns.DISCO_ITEMS, NS, ns.PING))
    identity = f"<identity category='directory' type='user' name='{NAME}'/>"
    return f"<query xmlns='{ns.DISCO_INFO}'>{identity}{features}</query>".encode()


def _terms(query: ElementTree.Element) -> dict[str, str]:
    """The filled in old fields. Raises FormError."""
    terms = {}
    for child in query:
        name = child.tag.removeprefix(f'{{{NS}}}')
        if name not in OLD_FIELDS:
            raise FormError(f'There is no field {name[:40]!r}. The fields are: {", ".join(OLD_FIELDS)}.')
        terms[name] = child.text or ''
    return _filled(terms)


def _submitted(form: ElementTree.Element) -> dict[str, str]:
    submission = forms.submitted(form, NS, FIELDS)
    return _filled({name: submission.text(name) for name in FIELDS})


def _filled(terms: Mapping[str, str]) -> dict[str, str]:
    filled = {name: term.strip().removesuffix('*').rstrip() for name, term in terms.items()}
    if any(len(term) > LENGTH or '\0' in term for term in filled.values()):
        raise FormError(f'A term has at most {LENGTH} characters.')
    return {name: term for name, term in filled.items() if term}


def _old_item(hit: directory.Found) -> str:
    values = dict(zip(directory.COLUMNS, hit.values, strict=True))
    inside = ''.join(element(name, '', values[name]) for name in OLD_FIELDS)
    return f"<item jid='{quote(hit.jid)}'>{inside}</item>"


_DIRECTORIES: WeakKeyDictionary[XcpRouter, Directory] = WeakKeyDictionary()


@router_started.on()
def on_start(router: XcpRouter) -> None:
    """The address belongs to the directory while the router runs: no other server is asked for it."""
    address = jids.prepare_domain(f'search.{router.config.default_domain}')
    if address in router.domains or address in router.routes:
        log.error('directory not available: its domain is taken', domain=address)
        return
    found = _DIRECTORIES[router] = Directory(router, address)
    router.routes[address] = found


@router_stopped.on()
def on_stop(router: XcpRouter) -> None:
    """The directory goes with its router."""
    found = _DIRECTORIES.pop(router, None)
    if found is not None and router.routes.get(found.address) is found:
        del router.routes[found.address]


@server_items.on()
def on_server_items(router: XcpRouter) -> bytes | None:
    """The server names its directory while that runs."""
    found = _DIRECTORIES.get(router)
    if found is None or found.service is None:
        return None
    return element('item', '', '', jid=found.address, name=NAME).encode()
