"""The connection between two nodes: mutually authenticated TLS 1.3, one write for each turn of the event loop.

Each node has a key of its own; its self-signed certificate stands in the database, which every node trusts already. A
peer is who it says when it proves the key of that node's certificate. Nothing secret leaves the node.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, cast

import structlog

from engine import tls
from engine.cluster.frames import Ack, Frame, Hello, Ping
from engine.cluster.link import Cutter, Link

if TYPE_CHECKING:
    from engine.cluster.links import Links

log = structlog.get_logger(__name__)

HIGH_WATER = 1024 * 1024
GREETING_BYTES = 4096
_UNNUMBERED = frozenset((Hello, Ack, Ping))


class Identity:
    """The node's key and the certificates of the others. ``known``: DER certificate -> node id."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = tls.certificate(folder, name, '', ())
        text = self.path.read_text()
        self.pem = text[text.index('-----BEGIN CERTIFICATE') :]
        self.known: dict[bytes, int] = {}
        self._contexts = [self._context(ssl.PROTOCOL_TLS_SERVER), self._context(ssl.PROTOCOL_TLS_CLIENT)]

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the key decides, not the name
        context.verify_mode = ssl.CERT_REQUIRED
        # a node with a new key has the same name: its certificate is found as itself, not by the name of an issuer
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_cert_chain(self.path)
        return context

    @property
    def accepting(self) -> ssl.SSLContext:
        """For connections that come."""
        return self._contexts[0]

    @property
    def connecting(self) -> ssl.SSLContext:
        """For connections made."""
        return self._contexts[1]

    def learn(self, certificates: dict[int, str]) -> None:
        """The certificates in the database. One that is not there any more is trusted no longer."""
        known: dict[bytes, int] = {}
        for node, pem in certificates.items():
            try:
                der = ssl.PEM_cert_to_DER_cert(pem)
                for context in self._contexts if der not in self.known else ():
                    context.load_verify_locations(cadata=der)
            except (ValueError, ssl.SSLError) as error:  # others must not lose their links for it
                log.debug('this is no certificate', node=node, error=str(error))
            else:
                known[der] = node
        self.known = known


class NodeConnection(asyncio.Protocol):
    """One connection. ``link`` is None until the other side has shown who it is; ``heard`` is when it last spoke."""

    def __init__(self, nodes: Links, link: Link | None = None) -> None:
        self._nodes = nodes
        self._cutter = Cutter(GREETING_BYTES)
        self._transport: asyncio.Transport | None = None
        self._scheduled = False
        self._blocked = False
        self._pauses = 0
        self._connecting = link
        self._said: Hello | None = None
        self.link: Link | None = None
        self.answered = asyncio.Event()
        """The other side has greeted, or the connection has ended."""
        self.heard = monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._nodes.connections.add(self)
        if self._connecting is not None:
            if self._peer() != self._connecting.other:
                self._refuse('another node answers at its address')
                return
            self._said = self._connecting.hello()
            self._nodes.say(self._transport, self._said)

    def _peer(self) -> int | None:
        """Id of the node whose key the other side proved."""
        assert self._transport is not None
        found = self._transport.get_extra_info('ssl_object')
        return self._nodes.identity.known.get(found.getpeercert(binary_form=True) or b'')

    def _refuse(self, reason: str) -> None:
        log.warning('node link refused', reason=reason, node=self._peer())
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Frames."""
        self.heard = monotonic()
        try:
            self._cutter.feed(data, self._take)
        except ValueError as error:  # also what msgspec raises
            self._refuse(str(error))
            return
        if self.link is not None:
            self._nodes.settle(self.link)

    def _take(self, frame: Frame) -> bool:
        link, kind = self.link, type(frame)
        if link is None:
            if not isinstance(frame, Hello):
                raise ValueError('it does not greet')
            return self._greeted(frame)
        if kind not in _UNNUMBERED:
            link.received += 1
            link.frames_in += 1
            self._nodes.take(link, frame)
        elif isinstance(frame, Ack):
            link.acknowledged(frame.received)
            self._nodes.relieve(link)
        elif kind is Hello:
            raise ValueError('a second greeting')
        return self.link is link

    def _greeted(self, hello: Hello) -> bool:
        assert self._transport is not None
        peer = self._peer()
        link = self._nodes.links.get(hello.node)
        if peer != hello.node or link is None or hello.version != link.hello().version:
            self._refuse(f'it says that it is node {hello.node}')
            return False
        if self._connecting is None:
            self._nodes.replace(link)
            answer, lost = link.answer(hello)
            self._nodes.say(self._transport, answer)
            resumed = answer.resumed
        elif link.up or link.hello() != self._said:
            self._refuse('it answers a question that holds no longer')
            return False
        else:
            lost, resumed = link.agreed(hello), hello.resumed
        self.link = link
        self.answered.set()
        self._cutter.longest = self._nodes.longest
        self._nodes.joined(link, self, hello.received if resumed else 0, resumed, lost)
        return True

    # writing

    def flush_soon(self) -> None:
        """Write at the end of this turn."""
        if not self._scheduled and not self._blocked:
            self._scheduled = True
            self._nodes.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self.link is not None and self.link.wire is self and self._transport is not None and not self._blocked:
            self._transport.write(self.link.take())

    def pause_writing(self) -> None:
        """The other node takes no more; frames wait in the link."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Go on."""
        self._blocked = False
        self.flush_soon()

    # reading

    def pause(self) -> None:
        """Too much is under way: read no further. Counted."""
        self._pauses += 1
        if self._pauses == 1 and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._pauses -= 1
        if self._pauses == 0 and self._transport is not None and not self._transport.is_closing():
            self.heard = monotonic()
            self._transport.resume_reading()

    @property
    def paused(self) -> bool:
        """Whether this side does not read."""
        return self._pauses > 0

    def end(self) -> None:
        """Write what waits, then end."""
        if self._transport is not None:
            if self.link is not None:
                self._transport.write(self.link.take())
            self._transport.close()

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """The link stays, with what was not acknowledged."""
        self.answered.set()
        self._nodes.connections.discard(self)
        link, self.link = self.link, None
        if link is not None and link.wire is self:
            link.interrupted()
            self._nodes.broken(link)
