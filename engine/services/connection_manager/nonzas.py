"""What a client says beside stanzas: stream management (XEP-0198) and whether somebody looks at it (XEP-0352)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

import structlog

from engine.contract.services import XCP_ROUTER
from engine.managed import Managed
from engine.quiet import ACTIVE, INACTIVE, Quiet
from engine.xmpp import ns, sm

if TYPE_CHECKING:
    from engine.services.connection_manager.connection import Connection
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.store.users import User
    from engine.xmpp.c2s import ClientStream, ResumeRequest
    from engine.xmpp.stanza import Stanza

log = structlog.get_logger(__name__)

_ENABLE: Final = f'{ns.STREAM_MANAGEMENT} enable'
_RESUME: Final = f'{ns.STREAM_MANAGEMENT} resume'
_REQUEST: Final = f'{ns.STREAM_MANAGEMENT} r'
_TOO_HIGH: Final = 'You acknowledged more stanzas than were sent to you.'


def entrance(router: XcpRouter, session: Session) -> Callable[[Stanza], None]:
    """Where the stanzas of the client go."""
    if session.account is None:
        return partial(router.dual.receive, session)
    # A method of the session, though the router's: half the size of a partial.
    route: Callable[[Stanza], None] = MethodType(router.entrance, session)
    if session.managed is not None:
        route = session.managed.receive
    return route if session.quiet is None else session.quiet.receive(route)


def on_nonza(connection: Connection, name: str, attrs: dict[str, str]) -> None:
    """One element of a client that has a session."""
    router, session, stream = connection._router, connection.session, connection._stream
    if router is None or session is None or stream is None:
        return
    managed = session.managed
    if session.account is None:
        if name in (_ENABLE, _RESUME):
            connection.write(sm.failed('unexpected-request', 'Activate the connection first.'))
    elif name == _REQUEST and managed is not None:
        managed.requested()
    elif name in (ACTIVE, INACTIVE):
        _look(router, session, name == ACTIVE)
        stream.on_stanza = entrance(router, session)
    elif name == _ENABLE:
        _enable(connection, router, session, stream, attrs)
    elif name == _RESUME:
        connection.write(sm.failed('unexpected-request', 'Resume before you bind a resource.'))
    elif managed is None:
        connection.write(sm.failed('unexpected-request', 'Enable stream management first.'))
    else:
        try:
            managed.outbound.acknowledge(sm.counter(attrs))
        except sm.TooHigh as error:
            stream.close('undefined-condition', _TOO_HIGH, extra=sm.too_high(error))
        except sm.Malformed as error:
            stream.close('bad-format', str(error))


def _look(router: XcpRouter, session: Session, active: bool) -> None:
    if active and session.quiet is not None:
        session.quiet.flush()
        session.be_quiet(None)
    elif not active and session.quiet is None:
        session.be_quiet(Quiet(router, session))


def _enable(
    connection: Connection, router: XcpRouter, session: Session, stream: ClientStream, attrs: dict[str, str]
) -> None:
    if not stream.settings.resumption:
        connection.write(sm.failed('feature-not-implemented', 'Stream management is not enabled.'))
    elif session.managed is not None:
        connection.write(sm.failed('unexpected-request', 'Stream management is enabled already.'))
    else:
        try:
            wanted = sm.read_enable(attrs)
        except sm.Malformed as error:
            connection.write(sm.failed('bad-request', str(error)))
            return
        Managed.enable(router, session, wanted)
        stream.on_stanza = entrance(router, session)


def resume(connection: Connection, event: ResumeRequest, user: User | None) -> None:
    """A client that has authenticated wants its session back. Whose it is not learns nothing about it."""
    router: Any = connection.manager.node.service(XCP_ROUTER)
    stream = connection._stream
    assert stream is not None
    if router is None:
        stream.close('system-shutdown')
        return
    managed: Managed | None = router.managed.get(event.previd)
    allowed = user is not None and user.eligible and router.node.ownership.owns(user.node_id)
    counters = router.node.counters
    if managed is None or not allowed or managed.session.bare != event.bare:
        counters.resumptions_refused += 1
        stream.resume_refused(sm.failed('item-not-found', 'There is no such stream any more.'))
        return
    try:
        missing = managed.outbound.again(event.h)
    except sm.TooHigh as error:
        stream.close('undefined-condition', _TOO_HIGH, extra=sm.too_high(error))
        return
    session = managed.session
    if missing is None:
        counters.resumptions_refused += 1
        handled = managed.inbound.decided()
        session.close('conflict', 'Another client wanted to resume the session and had missed too much.')
        router.unbind(session)
        stream.resume_refused(sm.failed('item-not-found', 'More was missed than is kept.', handled))
        return
    counters.streams_resumed += 1
    if not managed.hibernating:
        old: Any = session.connection
        old.give_up()
    handled = managed.attach(connection)
    connection.serve(router, session)
    log.debug('resumed', jid=session.jid, again=len(missing), address=connection.address)
    quiet = session.quiet
    stream.resumed(session.jid, (sm.resumed(event.previd, handled), *missing, sm.REQUEST))
    if quiet is not None and session.quiet is quiet:
        # XEP-0352 5: after a resumption the client counts as active.
        _look(router, session, active=True)
        stream.on_stanza = entrance(router, session)
