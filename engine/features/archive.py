"""XEP-0313 Message Archive Management with urn:mam:2#extended, and the preferences of XEP-0441.

Everybody reads only the own archive; a request to any other account is forbidden, whether it exists or not. A page
holds at most ``PAGE`` messages and about ``PAGE_BYTES`` bytes, whatever is asked for. What was said before the request
is in the answer: the query waits for the writes queued before it. The number of messages is given where it costs
little: for the whole archive, and when ``<max>0</max>`` or ``<index/>`` asks for it.

What is archived, and the ids, stand in ``xcp_router/archive.py``; without the service parameter *Enable Message
Archive* nothing is announced and every request is answered like that of an unknown protocol.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID
from xml.etree.ElementTree import Element

from engine.contract import jid
from engine.features.registry import iq, session_bound, xep
from engine.services.xcp_router.offline import HISTORY
from engine.store import archive as store
from engine.store.archive import Archived, Criteria, Rules
from engine.xmpp import datetimes, forms, ns, rsm
from engine.xmpp.forms import Field, Form, FormError
from engine.xmpp.forwarding import forwarded
from engine.xmpp.stanza import error, escape, iq_result, quote

if TYPE_CHECKING:
    from engine.services.xcp_router.archive import Archive
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

MAM: Final = 'urn:xmpp:mam:2'
PAGE: Final = 100
PAGE_BYTES: Final = 512 * 1024
LISTED: Final = 1000
"""Most addresses in the two lists of the preferences together."""
REMEMBERED: Final = 10_000
"""Messages of the archive a client is sent before it becomes available that are remembered, so that they do not come
again as offline messages."""
FIELDS: Final = {
    'with': Field('with', 'jid-single'),
    'start': Field('start'),
    'end': Field('end'),
    'before-id': Field('before-id'),
    'after-id': Field('after-id'),
    'ids': Field('ids', 'list-multi'),
    'include-groupchat': Field('include-groupchat', 'boolean'),
}
_OPEN = "<validate xmlns='http://jabber.org/protocol/xdata-validate' datatype='xs:string'><open/></validate>"


def enabled(router: XcpRouter) -> bool:
    """Whether there are archives."""
    return router.archive is not None


XEP = xep(313, '1.1.1', account=(MAM, f'{MAM}#extended', f'{MAM}#groupchat-field'), when=enabled)
PREFERENCES = xep(441, '0.2.0', when=enabled)
STANZA_IDS = xep(359, '0.7.0', account=(ns.STANZA_ID,), when=enabled)
SETS = xep(59, '1.0', account=(rsm.RSM,))


@session_bound.on()
def on_bound(router: XcpRouter, session: Session) -> None:
    """What the user wants archived is known from the first message on."""
    account = router.accounts[session.bare]
    if router.archive is not None and account.archiving is None:
        account.archiving = store.rules(session.user.archive)


class _Refused(Exception):
    """What the client asks for cannot be."""

    def __init__(self, condition: str, text: str) -> None:
        super().__init__(condition, text)
        self.condition, self.text = condition, text


# queries


@iq.on('get', MAM, 'query', 'self')
def on_fields(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """The fields a query may have."""
    if router.archive is None:
        return error(stanza, 'service-unavailable')
    fields = ''.join(field.xml() for field in FIELDS.values())
    fields = fields.replace(FIELDS['ids'].xml(), f"<field var='ids' type='list-multi'>{_OPEN}</field>")
    form = f"<x xmlns='{ns.DATA_FORMS}' type='form'>{forms.hidden(MAM).xml()}{fields}</x>"
    return iq_result(stanza, f"<query xmlns='{MAM}'>{form}</query>".encode())


@iq.on('set', MAM, 'query', 'self')
async def on_query(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """One page: a message for each entry, then the result."""
    archive = router.archive
    query = stanza.payload
    assert query is not None
    if archive is None:
        return error(stanza, 'service-unavailable')
    if query.get('node') is not None:
        return error(stanza, 'item-not-found', text='Only the archive of instant messages is here; it has no nodes.')
    try:
        form = _form(query)
        criteria, wanted = _criteria(form), rsm.parse(query)
        return await _answer(router, archive, session, stanza, criteria, wanted)
    except (FormError, rsm.SetError) as problem:
        return error(stanza, 'bad-request', text=str(problem))
    except _Refused as refused:
        return error(stanza, refused.condition, text=refused.text)


def _form(query: Element) -> Form:
    element = forms.find(query)
    if element is None:
        return Form('submit')
    unknown = [
        field.var for field in forms.parse(element).fields if field.var not in FIELDS and field.var != forms.FORM_TYPE
    ]
    if unknown:
        names = ', '.join(FIELDS)
        raise _Refused('feature-not-implemented', f'There is no field {unknown[0][:60]!r}. The fields are: {names}.')
    return forms.submitted(element, MAM, FIELDS)


def _criteria(form: Form) -> Criteria:
    form.flag('include-groupchat')  # room messages are never in a user's archive
    peer, _, resource = form.text('with').partition('/')
    ids = form.values('ids')
    if len(ids) > PAGE:
        raise _Refused('policy-violation', f'Ask for at most {PAGE} ids at a time.')
    after, before = form.text('after-id'), form.text('before-id')
    start, end = _time(form, 'start'), _time(form, 'end')
    return Criteria(
        peer=peer or None,
        resource=resource or None,
        # ids know milliseconds: from the first one that is not before start, up to and including that of end
        low=store.floor(start, start.microsecond % 1000 > 0) if start is not None else None,
        high=store.floor(end, 1) if end is not None else None,
        after=_uuid(after) if after else None,
        before=_uuid(before) if before else None,
        ids=tuple(_uuid(one) for one in ids),
    )


def _time(form: Form, var: str) -> datetime | None:
    text = form.text(var)
    if not text:
        return None
    try:
        return datetimes.parse(text)
    except datetimes.InvalidTime as problem:
        raise FormError(f'The field {var} is wrong: {problem}') from None


def _uuid(text: str) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        found = None
    if found is None or str(found) != text:
        raise _Refused('item-not-found', f'There is no message with the id {text[:60]!r} in the archive.')
    return found


async def _answer(
    router: XcpRouter, archive: Archive, session: Session, stanza: Stanza, criteria: Criteria, wanted: rsm.PageRequest
) -> bytes:
    query = stanza.payload
    assert query is not None
    await archive.settled()
    database, user_id = router.node.store, session.user.id
    page = criteria
    named = [one for one in (criteria.after, criteria.before, *criteria.ids) if one is not None]
    if wanted.after is not None:
        place = _uuid(wanted.after)
        named.append(place)
        page = page._replace(after=place if page.after is None else max(place, page.after))
    if wanted.before:
        place = _uuid(wanted.before)
        named.append(place)
        page = page._replace(before=place if page.before is None else min(place, page.before))
    if named and await store.missing(database, user_id, named):
        raise _Refused('item-not-found', 'A message named in the request is not in the archive.')
    size = PAGE if wanted.max is None else min(wanted.max, PAGE)
    found: list[Archived] = []
    more = True
    if size:
        newest, offset = wanted.before is not None, wanted.index or 0
        found, more = await store.page(database, user_id, page, size, PAGE_BYTES, newest, offset)
    count = None
    if not size or wanted.index is not None or criteria == Criteria():
        count = await store.count(database, user_id, criteria)
    _remember(session, found)
    shown = found[::-1] if query.find(f'{{{MAM}}}flip-page') is not None else found
    head, middle = _result(session, query.get('queryid'))
    session.send_many(
        [
            b'%b%b%b%b</result></message>' % (
                head, str(one.id).encode(), middle, forwarded(one.stanza, store.time_of(one.id)),
            )
            for one in shown
        ]
    )  # fmt: skip
    complete = " complete='true'" if not more and size else ''
    first, last = (str(found[0].id), str(found[-1].id)) if found else ('', '')
    index = wanted.index if found else None
    return iq_result(stanza, f"<fin xmlns='{MAM}'{complete}>{rsm.answer(first, last, index, count)}</fin>".encode())


def _result(session: Session, queryid: str | None) -> tuple[bytes, bytes]:
    named = f" queryid='{quote(queryid)}'" if queryid is not None else ''
    ends = f"from='{escape(session.bare)}' to='{escape(session.jid)}'"
    return f"<message {ends}><result xmlns='{MAM}'{named} id='".encode(), b"'>"


def _remember(session: Session, found: list[Archived]) -> None:
    """Until its offline messages were delivered: what the client read here."""
    if session.priority is not None and session.priority >= 0:
        return
    if session.notes is None:
        session.notes = {}
    history = session.notes.setdefault(HISTORY, set())
    if len(history) < REMEMBERED:
        history.update(str(one.id) for one in found)


@iq.on('get', MAM, 'metadata', 'self')
async def on_metadata(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """First and last message of the archive."""
    archive = router.archive
    if archive is None:
        return error(stanza, 'service-unavailable')
    await archive.settled()
    ends = await store.ends(router.node.store, session.user.id)
    inside = ''
    for name, identity in zip(('start', 'end'), ends or (), strict=False):
        inside += f"<{name} id='{identity}' timestamp='{datetimes.format(store.time_of(identity))}'/>"
    return iq_result(stanza, f"<metadata xmlns='{MAM}'>{inside}</metadata>".encode())


# preferences


@iq.on('get', MAM, 'prefs', 'self')
def on_get_preferences(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """What the user decided."""
    account = router.accounts.get(session.bare)
    if account is None or account.archiving is None:
        return error(stanza, 'service-unavailable')
    return iq_result(stanza, _preferences(account.archiving))


@iq.on('set', MAM, 'prefs', 'self')
async def on_set_preferences(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Another decision; it holds for messages from now on."""
    account = router.accounts.get(session.bare)
    if router.archive is None or account is None:
        return error(stanza, 'service-unavailable')
    try:
        chosen = _chosen(stanza)
    except ValueError as problem:  # also InvalidJID
        return error(stanza, 'bad-request', text=str(problem))
    await store.save_rules(router.node.store, session.user.id, chosen)
    for one in account.sessions.values():
        one.user.archive = None
    account.archiving = chosen
    return iq_result(stanza, _preferences(chosen))


@iq.on('get', MAM, 'query', 'bare')
@iq.on('set', MAM, 'query', 'bare')
@iq.on('get', MAM, 'metadata', 'bare')
@iq.on('get', MAM, 'prefs', 'bare')
@iq.on('set', MAM, 'prefs', 'bare')
def on_other(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Archives are private."""
    if router.archive is None:
        return error(stanza, 'service-unavailable')
    return error(stanza, 'forbidden', text='You can use your own archive only.')


def _chosen(stanza: Stanza) -> Rules:
    prefs = stanza.payload
    assert prefs is not None
    default = prefs.get('default')
    if default not in ('always', 'never', 'roster'):
        raise ValueError("The attribute 'default' is always, never or roster.")
    lists: dict[str, frozenset[str]] = {}
    for name in ('always', 'never'):
        found = prefs.findall(f'{{{MAM}}}{name}')
        if len(found) > 1:
            raise ValueError(f'There is more than one <{name}/>.')
        entries = found[0].findall(f'{{{MAM}}}jid') if found else []
        if len(entries) > LISTED:
            raise ValueError(f'The lists have at most {LISTED} addresses together.')
        lists[name] = frozenset(jid.prepare((entry.text or '').strip()) for entry in entries)
    if len(lists['always']) + len(lists['never']) > LISTED:
        raise ValueError(f'The lists have at most {LISTED} addresses together.')
    if both := lists['always'] & lists['never']:
        raise ValueError(f'{min(both)[:60]} is in both lists.')
    return Rules(default, lists['always'], lists['never'])


def _preferences(chosen: Rules) -> bytes:
    lists = ''.join(
        f'<{name}>' + ''.join(f'<jid>{escape(one)}</jid>' for one in sorted(entries)) + f'</{name}>'
        for name, entries in (('always', chosen.always), ('never', chosen.never))
    )
    return f"<prefs xmlns='{MAM}' default='{chosen.default}'>{lists}</prefs>".encode()
