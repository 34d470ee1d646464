"""One client connection: socket and TLS on one side, ``ClientStream`` and the XCP Router on the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from sys import intern
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

import structlog

from engine.contract.services import XCP_ROUTER
from engine.delivery import NOW, Delivery, Kept, track
from engine.services.authentication import AuthenticationService
from engine.services.connection_manager import encrypting, nonzas, signing_in
from engine.services.connection_manager.encrypting import LINGER_S
from engine.services.xcp_router import rescue
from engine.session import BindRefused, Session
from engine.xmpp.c2s import (
    Authenticated,
    AuthFailed,
    BindRequest,
    ClientStream,
    Close,
    Event,
    NeedCredentials,
    NeedPasswordCheck,
    ResumeRequest,
    Send,
    StartTLS,
)

if TYPE_CHECKING:
    from engine.services.connection_manager.manager import ConnectionManager
    from engine.services.xcp_router.router import XcpRouter
    from engine.store.users import User

log = structlog.get_logger(__name__)

HIGH_WATER = 64 * 1024
"""Bytes waiting for a slow client above which whoever sends to it is paused."""
GULP = 32 * 1024
"""After so many bytes at once the others come first: libuv would go on reading a fast client 32 times in one turn."""
HOLD_S = 1.0
"""The longest a sender is paused for somebody else's slowness each time: a client that does not read slows down who
sends to it, even without meaning to (presence), but cannot stop anybody."""
MOST_BEHIND = 32 * 1024 * 1024
"""A client with more bytes than this waiting for it is disconnected when it is sent still more."""
STALL_S = 60.0
"""A client that took nothing, or answered no <r/>, for so long is gone."""
PORTION = 256 * 1024
"""Bytes given at once to a client that caught up."""
_NOTHING: Final[list[bytes]] = []
"""What all connections with nothing to write share; ``write`` makes a list."""


class Connection(asyncio.Protocol):
    """The object a ``Session`` writes to. ``write`` collects; everything collected is sent once per turn of the event
    loop, in order. While the peer does not read fast enough ``congested`` is True; then whoever is being served at that
    moment (the sender of the stanza) is paused until the backlog is gone or ``HOLD_S`` is over, so nothing needs to be
    dropped and callers need not look. A client that does not read the answers to its own requests is paused until it
    does.

    What the operating system did not take (``blocked``) is remembered stanza by stanza; when the connection ends that
    way, its messages go to the user's other clients or to the offline store (xcp_router/rescue.py). Sessions with
    stream management need no such memory: they have their own.

    The Connection Manager calls the router: ``bind(user, resource, connection)`` (may raise ``BindRefused``),
    ``receive(session, stanza)`` for every stanza, ``unbind(session)`` when the connection ends for whatever reason.
    """

    __slots__ = (
        '_attempt', '_behind', '_early', '_ended', '_full', '_given', '_kept', '_marks', '_notes', '_out', '_owner',
        '_paused', '_raw', '_router', '_stream', '_taken', '_timer', '_transport', '_user', '_waiting', 'address',
        'blocked', 'congested', 'direct', 'manager', 'session',
    )  # fmt: skip

    def __init__(self, manager: ConnectionManager, direct: bool) -> None:
        self.manager = manager
        self.direct = direct
        """Whether TLS begins with the first byte."""
        self.address = ''
        self.congested = False
        self.blocked = False
        self.session: Session | None = None
        self._transport: Any = None
        self._raw: Any = None
        """The TCP transport below TLS."""
        self._stream: ClientStream | None = None
        self._router: XcpRouter | None = None
        self._user: User | None = None
        self._attempt: tuple[AuthenticationService, str] | None = None
        """The sign-in under way: the service that counts it, the bare JID."""
        self._early: list[bytes] | None = None
        """While the TLS handshake runs: what was decrypted before the stream knew that TLS is up."""
        self._out = _NOTHING
        """What was written in this turn, or since the transport took no more."""
        self._full = False
        """The transport takes no more: what is written waits in ``_out``."""
        self._behind = 0
        """Bytes that wait in ``_out`` for that reason."""
        self._given = self._taken = 0
        """Bytes given to the transport, and how many of them the operating system surely took."""
        self._kept: deque[tuple[int, bytes]] | None = None
        """What was given and not all taken: (end in the bytes given, stanza)."""
        self._notes: list[tuple[bytes, Delivery]] | None = None
        """Messages whose senders wait to hear that they were taken."""
        self._owner: tuple[XcpRouter, str] | None = None
        """Of the session that was here: to whom what was not taken belongs."""
        self._marks: list[tuple[int, Callable[[bool], None]]] | None = None
        self._waiting: dict[Connection, asyncio.TimerHandle | None] | None = None
        """Who is paused because of this client, and when at the latest that ends."""
        self._paused = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    _low_level_limit = 0
    """High water mark of the socket's own buffer."""

    # ---- what sessions use

    @property
    def gone(self) -> bool:
        """The socket is closed, and what it did not take is decided."""
        return self._stream is None

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""
        if self._out:
            self._out.append(data)
        else:
            self._out = [data]
            self.manager.will_flush(self)
        if self._full or NOW.asker is not None:
            self._careful(data)

    def _careful(self, data: bytes) -> None:
        """The client does not keep up, or the sender waits for an acknowledgement."""
        session = self.session
        if NOW.asker is not None and session is not None and session.managed is None and type(data) is not Kept:
            stanza = self._stanza(data)
            if stanza.startswith(b'<m') and (delivery := track(stanza, session.bare)) is not None:
                if self._notes is None:
                    self._notes = []
                self._notes.append((data, delivery))
        if self._full:
            self._behind += len(data)
            waiting = self._behind + self._buffered()
            if waiting > MOST_BEHIND:
                log.info('client is too far behind', address=self.address, bytes=waiting)
                self._transport.abort()
            elif waiting > HIGH_WATER:
                self.congested = True
                self._hold_sender()

    def _stanza(self, data: bytes) -> bytes:
        """The stanza in what was queued, as the session gave it. Web clients have something around it."""
        return data

    def close(self, condition: str | None = None, text: str = '') -> None:
        """End the stream after sending what is queued; with ``condition``, as a stream error (RFC 6120 4.9.3)."""
        if self._stream is None or self._ended:
            return
        if condition == 'see-other-host':
            self._stream.close(condition, '', text)
        else:
            self._stream.close(condition or '', text)

    def pause(self) -> None:
        """Stop reading from the client. Counted: as many ``resume`` calls are needed."""
        self._paused += 1
        if self._paused == 1 and self._may_steer():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._paused -= 1
        if self._paused == 0 and self._may_steer():
            self._transport.resume_reading()

    def when_flushed(self, callback: Callable[[bool], None]) -> None:
        """Call ``callback(True)`` once everything written before this call was taken by the operating system,
        ``callback(False)`` when the connection ended before that. Exactly one call, never from inside this one."""
        if self._ended:
            self.manager.loop.call_soon(callback, False)
            return
        self.flush()
        if self._marks is None:
            self._marks = []
        self._marks.append((self._given + sum(map(len, self._out)), callback))
        self._look_later()

    def _look_later(self) -> None:
        self.manager.watch(self)

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected over TCP."""
        self._transport = self._raw = transport
        self.address = intern((transport.get_extra_info('peername') or ('?',))[0])
        if not self.manager.admit(self):
            self._ended = True
            self._transport.abort()
            return
        # Then a write goes to the operating system at once, and what is left shows how much it did not take.
        self._transport.set_write_buffer_limits(high=self._low_level_limit)
        self._stream = self._new_stream()
        self._arm()
        if self.direct:
            self._early = []
            # Not at once: the transport begins to read after this call, whatever is asked of it here.
            self.manager.loop.call_soon(encrypting.begin, self, HIGH_WATER)

    def _new_stream(self) -> ClientStream:
        """Web clients override it (web_connection_manager), as they do ``write``, ``data_received`` and ``_close``."""
        return ClientStream(self.manager.settings, self._on_event, self.manager.loop.time())

    def data_received(self, data: bytes) -> None:
        """Bytes from the client, after TLS."""
        if self._early is not None:
            self._early.append(data)
            return
        stream = self._stream
        if stream is None or self._ended:
            return
        manager, size = self.manager, len(data)
        manager.counters.bytes_in += size
        manager.serving = self
        try:
            stream.receive(data)
        except Exception:
            log.exception('connection failed', address=self.address, jid=stream.jid)
            self.close('internal-server-error')
        finally:
            manager.serving = None
        if size >= GULP:
            self.pause()
            manager.loop.call_soon(self.resume)

    def eof_received(self) -> None:
        """The client will send no more; the connection closes."""

    def pause_writing(self) -> None:
        """The transport holds as much as it should."""
        if not self._full:
            self._full = True
            # Until it has bound a client has its absolute deadline, whatever it reads.
            if not self._ended and not self._has_deadline():
                self._watch_progress(self._given - self._buffered())

    def resume_writing(self) -> None:
        """The client caught up with what the transport had."""
        self._full = False
        self._give_portions()
        if self._full:  # pause_writing was called meanwhile
            return
        self.congested = False
        if not self._ended and not self._has_deadline():
            self._cancel_timer()
        self._let_senders_go()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self._end(lost=True)
        self._rescue()
        self._cancel_timer()
        self._let_senders_go()
        self.manager.forget(self)
        self._stream = None
        self._user = None

    # ---- writing

    def flush(self) -> None:
        """Give what was collected to the transport, in one piece. Once per turn of the loop, from the manager."""
        out = self._out
        if not out or self._full or self._early is not None or self._transport.is_closing():
            return
        self._out = _NOTHING
        self._give(out)

    def _give(self, out: list[bytes]) -> None:
        count = len(out)
        data = out[0] if count == 1 else b''.join(out)
        size = len(data)
        self._given += size
        counters = self.manager.counters
        counters.bytes_out += size
        counters.stanzas_out += count
        self._transport.write(data)
        if self._raw.get_write_buffer_size() or self._raw.is_closing():
            self._keep(out)
        else:
            self._taken = self._given
            if self._notes is not None and not self.blocked:
                self._took_all()

    def _give_portions(self) -> None:
        """What waited while the transport was full."""
        while self._out and not self._full and not self._transport.is_closing():
            size = count = 0
            for data in self._out:
                size += len(data)
                count += 1
                if size >= PORTION:
                    break
            portion, self._out = self._out[:count], self._out[count:]
            self._behind = max(0, self._behind - size)
            self._give(portion)

    def _keep(self, out: list[bytes]) -> None:
        """The operating system did not take all of it: remember the stanzas until it has."""
        if self.session is not None and self.session.managed is not None:
            return
        if self._kept is None:
            self._kept = deque()
        self.blocked = True
        end = self._given - sum(map(len, out))
        for data in out:
            end += len(data)
            self._kept.append((end, data))
        self._look_later()

    def _took_all(self) -> None:
        notes, self._notes = self._notes, None
        self._kept = None
        self.blocked = False
        for _, delivery in notes or ():
            delivery.finish()

    def _buffered(self) -> int:
        waiting: int = self._transport.get_write_buffer_size()
        if self._raw is not self._transport:
            waiting += self._raw.get_write_buffer_size()
        return waiting

    def check_marks(self) -> bool:
        """Answer the ``when_flushed`` callbacks that are due and forget what was taken; whether to look again."""
        marks, kept, notes = self._marks, self._kept, self._notes
        if not marks and kept is None:
            return False
        if not self._raw.is_closing():
            self._taken = self._given - self._buffered()
        # A broken connection has nothing in its buffers, though nobody took it: what is known is from before.
        done = self._taken
        if kept is not None:
            while kept and kept[0][0] <= done:
                data = kept.popleft()[1]
                if notes and notes[0][0] is data:
                    notes.pop(0)[1].finish()
            if not kept:
                self._took_all()
        if not self._ended:
            while marks and marks[0][0] <= done:
                marks.pop(0)[1](True)
            if not marks:
                self._marks = None
        return self._marks is not None or self._kept is not None

    # ---- back-pressure

    def _hold_sender(self) -> None:
        sender = self.manager.serving
        if sender is None:
            return
        if self._waiting is None:
            self._waiting = {}
        if sender not in self._waiting:
            until = None if sender is self else self.manager.loop.call_later(HOLD_S, self._let_go, sender)
            self._waiting[sender] = until
            sender.pause()

    def _let_go(self, sender: Connection) -> None:
        if self._waiting and sender in self._waiting:
            del self._waiting[sender]
            sender.resume()

    def _let_senders_go(self) -> None:
        waiting, self._waiting = self._waiting, None
        for sender, until in (waiting or {}).items():
            if until is not None:
                until.cancel()
            sender.resume()

    def _watch_progress(self, before: int) -> None:
        self._cancel_timer()
        self._timer = self.manager.loop.call_later(STALL_S, self._stalled, before)

    def _stalled(self, before: int) -> None:
        taken = self._given - self._buffered()
        if taken > before:
            self._watch_progress(taken)
            return
        log.info('client takes nothing any more', address=self.address, bytes=self._behind + self._buffered())
        self._transport.abort()

    def _may_steer(self) -> bool:
        return self._transport is not None and self._early is None and not self._transport.is_closing()

    # ---- time

    def _has_deadline(self) -> bool:
        return self._stream is not None and self._stream.deadline is not None

    def _arm(self) -> None:
        self._cancel_timer()
        if self._stream is not None and self._stream.deadline is not None:
            self._timer = self.manager.loop.call_at(self._stream.deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._stream is None or self._ended:
            return
        self._stream.tick(self.manager.loop.time())
        if not self._ended:
            self._arm()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- what the stream asks for

    def _on_event(self, event: Event) -> None:
        match event:
            case Send():
                self.write(event.data)
            case NeedCredentials():
                self.manager.task(signing_in.give_credentials(self, event))
            case NeedPasswordCheck():
                self.manager.task(signing_in.check_password(self, event))
            case AuthFailed():
                wrong = event.condition == 'not-authorized'
                signing_in.verdict(self, f'{event.localpart}@{event.domain}', False if wrong else None)
            case Authenticated():
                signing_in.verdict(self, event.bare, True)
                if self._user is not None:
                    self._user = self._user.signed_in()
                log.debug('signed in', user=event.bare, mechanism=event.mechanism, address=self.address)
            case BindRequest():
                self._bind(event)
            case ResumeRequest():
                nonzas.resume(self, event, self._user)
            case StartTLS():
                encrypting.begin(self, HIGH_WATER)
            case Close():
                self._close(event)

    def _bind(self, event: BindRequest) -> None:
        stream, user = self._stream, self._user
        router: Any = self.manager.node.service(XCP_ROUTER)
        assert stream is not None
        if router is None or user is None:
            stream.close('system-shutdown')
            return
        try:
            bind = router.dual.bind if event.inactive else router.bind
            session: Session = bind(user, event.resource, self)
        except BindRefused as refusal:
            if refusal.condition == 'see-other-host':
                stream.close('see-other-host', '', refusal.text)
            elif refusal.condition == 'remote-connection-failed':
                stream.close(refusal.condition, refusal.text)
            else:
                stream.bind_refused(refusal.condition, refusal.text)
            return
        self.manager.counters.logins += 1
        self.serve(router, session)
        stream.bound(session.jid)
        if not self._ended and not self._full:
            self._arm()

    def serve(self, router: XcpRouter, session: Session) -> ClientStream:
        """From now on this connection is the session's. The caller tells the stream."""
        stream = self._stream
        assert stream is not None
        self._router, self.session, self._user = router, session, None
        stream.on_stanza = nonzas.entrance(router, session)
        stream.on_nonza = MethodType(nonzas.on_nonza, self)
        return stream

    def entered(self) -> None:
        """The inactive session was activated."""
        if self._stream is not None and self._router is not None and self.session is not None:
            self._stream.on_stanza = nonzas.entrance(self._router, self.session)

    def give_up(self) -> None:
        """The client has resumed its session over another connection: this one ends without it."""
        self.session = self._router = None
        self.close('conflict', 'The session was resumed over another connection.')

    def _close(self, event: Close) -> None:
        if event.condition:
            self.manager.counters.stream_errors += 1
            log.debug('stream error', address=self.address, condition=event.condition, text=event.text)
        last = self._early is None
        self.flush()
        if self._full and last and not self._transport.is_closing():
            # Nothing tells when the transport takes more once it closes, so it gets all of it now.
            out, self._out, self._behind = self._out, _NOTHING, 0
            self._give(out)
        self._end()
        if last and not self._transport.is_closing():
            self._transport.close()
            self._cancel_timer()
            self._timer = self.manager.loop.call_later(LINGER_S, self.abort)
        else:
            self._raw.abort()

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._transport.abort()
        self._raw.abort()

    def _rescue(self) -> None:
        """The socket is gone for good: messages it did not take are somebody's."""
        kept, out, notes = self._kept, self._out, self._notes
        self._kept, self._out, self._notes, self._behind = None, _NOTHING, None, 0
        owner, self._owner = self._owner, None
        deliveries = {id(data): delivery for data, delivery in notes or ()}
        if owner is not None:
            router, bare = owner
            left = [data for _, data in kept or ()] + out
            rescue.rescue(
                router,
                bare,
                [
                    (stanza, deliveries.pop(id(data), None) or Delivery(bare))
                    for data in left
                    if type(data) is not Kept and (stanza := self._stanza(data)).startswith(b'<message')
                ],
            )
        for delivery in deliveries.values():
            delivery.finish()

    def _end(self, lost: bool = False) -> None:
        """The session ends here, or waits for its client when the connection was ``lost``. Once."""
        if self._ended:
            return
        # Looked at before anything else runs: bytes that the system took are delivered as far as we can tell.
        if self._marks and self._early is None:
            self.check_marks()
        self._ended = True
        marks, self._marks = self._marks, None
        for _, callback in marks or ():
            self.manager.loop.call_soon(callback, False)
        if self._stream is not None:
            self._stream.eof()
        if self._attempt is not None:
            signing_in.verdict(self, '', None)
        session, self.session = self.session, None
        router, self._router = self._router, None
        if session is None or router is None:
            return
        if session.managed is None:
            self._owner = router, session.bare
        elif lost and session.managed.identity:
            session.managed.detach()
            return
        router.unbind(session)
