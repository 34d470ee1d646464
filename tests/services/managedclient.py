"""A raw client with stream management (XEP-0198): counts what it receives, acknowledges only when told to."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from xml.etree.ElementTree import Element, XMLPullParser

from tests.fixtures import data
from tests.fixtures.processes import Engine
from tests.services.rawclient import STREAM, RawClient

SM = '{urn:xmpp:sm:3}'
CLIENT = '{jabber:client}'
STANZAS = tuple(f'{CLIENT}{name}' for name in ('message', 'presence', 'iq'))
_numbers = itertools.count(1)


class ManagedClient(RawClient):
    """``h`` is what it has received since <enable/>; ``id`` what resumes it. ``answering``: answers <r/> while it
    reads."""

    def __init__(self, engine: Engine, user: str, resource: str = 'raw') -> None:
        super().__init__(engine.port)
        self.engine, self.user, self.resource = engine, user, resource
        self.jid = f'{user}@{data.DOMAIN}/{resource}'
        self.h = 0
        self.id = ''
        self.counting = False
        self.answering = False
        self.elements: list[Element] = []
        self.later: list[ManagedClient] = []
        """Clients that resumed this one's session."""
        self._parser = XMLPullParser(['start', 'end'])
        self._depth = 0

    def sign_in(self) -> ManagedClient:
        """TLS and SASL, the next stream opened up to its features."""
        self.starttls()
        assert b'<success' in self.plain(self.user, data.PASSWORD)
        self.send(STREAM)
        self.features = self.take('{http://etherx.jabber.org/streams}features')
        return self

    def bind(self) -> ManagedClient:
        """Bind the resource."""
        self.send(
            f"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
            f'<resource>{self.resource}</resource></bind></iq>'.encode()
        )
        answer = self.take(f'{CLIENT}iq')
        assert answer.get('type') == 'result', answer[-1][0].tag
        return self

    def enable(self, attributes: str = "resume='true'") -> Element:
        """Ask for stream management; the answer."""
        self.counting, self.h = True, 0
        self.send(f"<enable xmlns='urn:xmpp:sm:3' {attributes}/>".encode())
        answer = self.take(f'{SM}enabled')
        self.id = answer.get('id', '')
        return answer

    def online(self, attributes: str = "resume='true'", available: bool = True) -> ManagedClient:
        """All of it, and initial presence."""
        self.sign_in().bind().enable(attributes)
        if available:
            self.send(b'<presence/>')
            self.take(f'{CLIENT}presence')
        return self

    def again(self, h: int | None = None) -> ManagedClient:
        """A new connection that resumes this session; ``take('resumed')`` or 'failed' follows."""
        client = ManagedClient(self.engine, self.user, self.resource)
        self.later.append(client)
        client.sign_in()
        client.counting, client.h = True, self.h if h is None else h
        client.id = self.id
        client.send(f"<resume xmlns='urn:xmpp:sm:3' previd='{self.id}' h='{client.h}'/>".encode())
        return client

    def say(self, to: str, body: str, type: str = 'chat') -> str:
        """Send a message; its id."""
        number = f's{next(_numbers)}'
        self.send(f"<message to='{to}' type='{type}' id='{number}'><body>{body}</body></message>".encode())
        return number

    def acknowledge(self, h: int | None = None) -> None:
        """Send <a/>."""
        self.send(b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % (self.h if h is None else h))

    def acknowledged(self) -> int:
        """Ask with <r/>; the h of the answer."""
        self.send(b"<r xmlns='urn:xmpp:sm:3'/>")
        return int(self.take(f'{SM}a').get('h', ''))

    def sync(self) -> None:
        """The server has dealt with everything sent so far."""
        number = f'ping{next(_numbers)}'
        self.send(f"<iq type='get' id='{number}'><ping xmlns='urn:xmpp:ping'/></iq>".encode())
        self.take(f'{CLIENT}iq', lambda answer: answer.get('id') == number)

    def take(
        self, name: str, fits: Callable[[Element], bool] = lambda _element: True, timeout_s: float = 20
    ) -> Element:
        """The first received element of this name that fits, out of order; waits for it."""
        deadline = time.monotonic() + timeout_s
        while True:
            for element in self.elements:
                if element.tag == name and fits(element):
                    self.elements.remove(element)
                    return element
            left = deadline - time.monotonic()
            assert left > 0, f'no {name}; received {[(e.tag, e.attrib) for e in self.elements]}'
            self.read(left)

    def bodies(self, count: int, timeout_s: float = 20) -> list[str]:
        """The bodies of the next messages."""
        return [
            message.findtext(f'{CLIENT}body', '')
            for message in (
                self.take(f'{CLIENT}message', lambda m: m.get('type') != 'error', timeout_s) for _ in range(count)
            )
        ]

    def error(self, number: str, timeout_s: float = 20) -> str:
        """The condition of the error that comes back for the message with this id."""
        answer = self.take(f'{CLIENT}message', lambda m: m.get('id') == number and m.get('type') == 'error', timeout_s)
        return answer.find(f'{CLIENT}error')[0].tag.partition('}')[2]  # type: ignore[index]

    def rest(self, within_s: float = 0.3) -> list[Element]:
        """Everything not taken that came or comes within the time."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self.read(left, closed=True)
        return self.elements

    def read(self, timeout_s: float, closed: bool = False) -> None:
        """Read once."""
        self.socket.settimeout(max(0.001, timeout_s))
        try:
            received = self.socket.recv(65536)
        except TimeoutError:
            return
        except OSError:
            received = b''
        if not received and closed:
            time.sleep(min(0.01, timeout_s))
            return
        assert received, f'closed; the end was {self.seen[-500:]!r}'
        self.feed(received)

    def read_until(self, needle: bytes, timeout_s: float = 20) -> bytes:
        """As for any raw client: for the time before the last stream header."""
        return super().read_until(needle, timeout_s)

    def feed(self, received: bytes) -> None:
        """Take bytes apart."""
        self.seen += received
        self._parser.feed(received)
        for event, element in self._parser.read_events():
            self._depth += 1 if event == 'start' else -1
            if event == 'end' and self._depth == 1:
                self._received(element)

    def _received(self, element: Element) -> None:
        if element.tag in STANZAS and self.counting:
            self.h += 1
        if element.tag == f'{SM}r' and self.answering:
            self.acknowledge()
            return
        self.elements.append(element)

    def close_all(self) -> None:
        """Cut it, and those that resumed its session."""
        self.close()
        for client in self.later:
            client.close_all()
