"""Web clients made of an HTTP connection or a WebSocket, for tests of what a library would never send.

``BoshClient`` counts request ids by itself: ``post(children, **attributes)`` sends the next request and reads its
response. ``WebSocketClient`` sends and reads messages. Both sign in with ``login``.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.fixtures import data
from tests.fixtures.processes import Engine, free_port, wait_until
from tests.fixtures.tls import trusting
from tests.services.rawclient import scram_proof

SERVICE = 'xcp_web_connection_manager'
HTTPBIND = 'http://jabber.org/protocol/httpbind'
FRAMING = 'urn:ietf:params:xml:ns:xmpp-framing'
SASL = 'urn:ietf:params:xml:ns:xmpp-sasl'
STREAMS = 'http://etherx.jabber.org/streams'
BIND = 'urn:ietf:params:xml:ns:xmpp-bind'
BOSH, WEBSOCKET = '/httpbinding', '/websocket'


class Web:
    """A running engine whose Web Connection Manager listens on ``port``."""

    def __init__(self, engine: Engine, port: int) -> None:
        self.engine, self.port = engine, port
        self.clients: list[Any] = []

    def bosh(self, **options: Any) -> BoshClient:
        """A BOSH client that has said nothing yet."""
        self.clients.append(made := BoshClient(self.port, **options))
        return made

    def websocket(self, **options: Any) -> WebSocketClient:
        """A WebSocket client that is connected."""
        self.clients.append(made := WebSocketClient(self.port, **options))
        return made

    def socket(self) -> ssl.SSLSocket:
        """A TLS connection."""
        raw = socket.create_connection(('127.0.0.1', self.port), 20)
        self.clients.append(made := trusting().wrap_socket(raw, server_hostname='x'))
        return made

    def close(self) -> None:
        """Drop every connection."""
        for client in self.clients:
            client.close()


def set_up(**parameters: Any) -> int:
    """Activate the service on the node with a free port and these parameters, as the console would; the port."""
    from impadmin.system.models import Node, ParameterValue, ServiceActivation

    node = Node.objects.get(name=data.NODE)
    ServiceActivation.objects.get_or_create(node=node, service=SERVICE)
    port = free_port()
    ParameterValue.objects.update_or_create(service=SERVICE, name='port', node=node, defaults={'value': port})
    for name, value in parameters.items():
        ParameterValue.objects.update_or_create(
            service=SERVICE, name=name, node=node if name == 'public_url' else None, defaults={'value': value}
        )
    data.publish_configuration()
    return port


def start(request: pytest.FixtureRequest, **parameters: Any) -> Web:
    """Engine and service, listening."""
    port = set_up(**parameters)
    engine: Engine = request.getfixturevalue('engine')
    wait_until(lambda: _open(port), 'the web port is open')
    made = Web(engine, port)
    request.addfinalizer(made.close)
    return made


@pytest.fixture
def web(db: None, request: pytest.FixtureRequest) -> Web:
    """An engine with the Cisco XCP Web Connection Manager."""
    return start(request)


def _open(port: int) -> bool:
    try:
        socket.create_connection(('127.0.0.1', port), 1).close()
    except OSError:
        return False
    return True


def plain(user: str, password: str = data.PASSWORD) -> str:
    """SASL PLAIN."""
    token = base64.b64encode(f'\0{user}\0{password}'.encode()).decode()
    return f"<auth xmlns='{SASL}' mechanism='PLAIN'>{token}</auth>"


def bind(resource: str) -> str:
    """Resource binding."""
    inside = f"<bind xmlns='{BIND}'><resource>{resource}</resource></bind>"
    return f"<iq xmlns='jabber:client' type='set' id='bind'>{inside}</iq>"


class BoshClient:
    """One BOSH session. ``headers`` go with every request."""

    def __init__(self, port: int, secure: bool = True, headers: dict[str, str] | None = None) -> None:
        self.port, self.secure = port, secure
        self.headers = {'Content-Type': 'text/xml; charset=utf-8', **(headers or {})}
        self.rid = random.randint(1_000, 10_000_000)
        self.sid = ''
        self.connections: list[http.client.HTTPConnection] = []
        self.received: list[Element] = []

    def connection(self) -> http.client.HTTPConnection:
        """A connection of its own."""
        made: http.client.HTTPConnection = (
            http.client.HTTPSConnection('127.0.0.1', self.port, timeout=20, context=trusting())
            if self.secure
            else http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)
        )
        self.connections.append(made)
        return made

    def body(self, children: str = '', **attributes: Any) -> bytes:
        """The text of a request; attributes with a colon are given as ``xmpp_restart``."""
        given = {'sid': self.sid or None, 'rid': self.rid, **attributes}
        text = ''.join(
            f" {key.replace('xmpp_', 'xmpp:').replace('xml_', 'xml:')}='{value}'"
            for key, value in given.items()
            if value is not None
        )
        return f"<body xmlns='{HTTPBIND}' xmlns:xmpp='urn:xmpp:xbosh'{text}>{children}</body>".encode()

    def send(self, children: str = '', **attributes: Any) -> http.client.HTTPConnection:
        """Send the next request on a connection of its own, without waiting for the response."""
        self.rid += 1
        return self.send_raw(self.body(children, **attributes))

    def send_raw(self, body: bytes) -> http.client.HTTPConnection:
        """Send these bytes as the content of a request."""
        connection = self.connection()
        connection.request('POST', BOSH, body, self.headers)
        return connection

    def read(self, connection: http.client.HTTPConnection) -> Element:
        """The response."""
        response = connection.getresponse()
        content = response.read()
        assert response.status == 200, (response.status, content)
        found = fromstring(content)  # noqa: S314
        assert found.tag == f'{{{HTTPBIND}}}body', content
        self.received += list(found)
        return found

    def post(self, children: str = '', **attributes: Any) -> Element:
        """Send the next request, read its response."""
        return self.read(self.send(children, **attributes))

    def open(self, **attributes: Any) -> Element:
        """Create the session; the response."""
        given = {'to': data.DOMAIN, 'wait': 10, 'hold': 1, 'ver': '1.6', 'xml_lang': 'en', 'xmpp_version': '1.0'}
        answer = self.post(**(given | attributes))
        self.sid = answer.get('sid', '')
        return answer

    def login(self, user: str, resource: str = 'bosh', **attributes: Any) -> BoshClient:
        """Create a session, sign in and bind."""
        if not self.sid:
            self.open(**attributes)
        assert self.until(lambda: self.post(plain(user)), f'{{{SASL}}}success') is not None
        self.post(xmpp_restart='true', to=data.DOMAIN)
        bound = self.until(lambda: self.post(bind(resource)), '{jabber:client}iq')
        assert bound.get('type') == 'result'
        self.jid = f'{user}@{data.DOMAIN}/{resource}'
        return self

    def until(self, first: Any, tag: str) -> Element:
        """``first()``, then empty requests until an element ``tag`` has come."""
        answer = first()
        for _ in range(10):
            for child in answer:
                if child.tag == tag:
                    return child
            answer = self.post()
        raise AssertionError(f'no {tag}')

    def terminate(self) -> Element:
        """End the session."""
        return self.post(type='terminate')

    def close(self) -> None:
        """Drop the connections."""
        for connection in self.connections:
            connection.close()


class Closed(Exception):
    """The WebSocket is closed; ``code`` is the close code, None without a close frame."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class WebSocketClient:
    """One WebSocket, without threads (a TLS connection of this Python is not for two at once). ``compression`` offers
    it, ``origin`` is the page's, ``buffer`` what the system keeps for it while it does not read, in bytes. Raises
    InvalidStatus when the handshake is refused."""

    def __init__(
        self, port: int, secure: bool = True, path: str = WEBSOCKET, protocol: str = 'xmpp', origin: str | None = None,
        compression: bool = False, buffer: int | None = None,
    ) -> None:  # fmt: skip
        uri = parse_uri(f'{"wss" if secure else "ws"}://127.0.0.1:{port}{path}')
        self.protocol = ClientProtocol(
            uri, origin=origin, extensions=[ClientPerMessageDeflateFactory()] if compression else None,  # type: ignore[arg-type]
            subprotocols=[protocol] if protocol else None, max_size=None,  # type: ignore[list-item]
        )  # fmt: skip
        raw = socket.socket()
        if buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw.settimeout(20)
        raw.connect(('127.0.0.1', port))
        self.socket: socket.socket = trusting().wrap_socket(raw, server_hostname='x') if secure else raw
        self._events: list[Any] = []
        self._text = b''
        self.protocol.send_request(self.protocol.connect())
        self._push()
        while self.protocol.state is State.CONNECTING and self.protocol.handshake_exc is None:
            self._pull(20)
        if self.protocol.handshake_exc is not None:
            self.close()
            raise self.protocol.handshake_exc
        self.subprotocol = self.protocol.subprotocol

    def _push(self) -> None:
        self.raw(b''.join(self.protocol.data_to_send()))

    def raw(self, data: bytes) -> WebSocketClient:
        """Send these bytes; those of a connection the server has closed are no concern here."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)
        return self

    def _pull(self, timeout: float) -> None:
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise
        except OSError:
            data = b''
        self.protocol.receive_data(data) if data else self.protocol.receive_eof()
        self._events += self.protocol.events_received()
        self._push()

    def send(self, text: str | bytes) -> WebSocketClient:
        """Send a message; bytes as a binary one. Nothing happens when the WebSocket is closed."""
        if self.protocol.state is State.OPEN:
            if isinstance(text, bytes):
                self.protocol.send_binary(text)
            else:
                self.protocol.send_text(text.encode())
            self._push()
        return self

    def ping(self) -> None:
        """Send a ping and wait for its answer; messages that come before are kept."""
        self.protocol.send_ping(b'here?')
        self._push()
        while not any(isinstance(event, Frame) and event.opcode is Opcode.PONG for event in self._events):
            self._pull(20)

    def read(self, timeout: float = 20) -> Element:
        """The next message as an element. Raises Closed when there is none and the WebSocket is closed."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    assert event.fin, 'the server does not fragment'
                    return fromstring(event.data)  # noqa: S314
            if self.protocol.state is State.CLOSED or self.protocol.close_rcvd is not None:
                raise Closed(self.protocol.close_rcvd.code if self.protocol.close_rcvd is not None else None)
            self._pull(timeout)

    def read_until(self, tag: str) -> Element:
        """The first message whose element has this name ('{namespace}name')."""
        while (found := self.read()).tag != tag:
            pass
        return found

    def open(self, **attributes: str) -> Element:
        """Open the stream; its features. The answer to <open/> is in ``opened``."""
        given = {'to': data.DOMAIN, 'version': '1.0'} | attributes
        text = ''.join(f" {key}='{value}'" for key, value in given.items())
        self.send(f"<open xmlns='{FRAMING}'{text}/>")
        self.opened = self.read_until(f'{{{FRAMING}}}open')
        return self.read()

    def authenticate(self, user: str) -> Element:
        """Sign in without a resource; the features."""
        self.open()
        if isinstance(self.socket, ssl.SSLSocket):
            self.send(plain(user))
        else:  # PLAIN is not offered there
            first = f'n={user},r=abcdefgh'
            start = base64.b64encode(f'n,,{first}'.encode()).decode()
            challenge = self.send(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{start}</auth>").read().text or ''
            proof = scram_proof('sha256', data.PASSWORD, 'biws', first, challenge)
            self.send(f"<response xmlns='{SASL}'>{proof}</response>")
        assert self.read().tag == f'{{{SASL}}}success'
        return self.open()

    def login(self, user: str, resource: str = 'ws') -> WebSocketClient:
        """Sign in and bind."""
        self.authenticate(user)
        bound = self.send(bind(resource)).read_until('{jabber:client}iq')
        assert bound.get('type') == 'result'
        self.jid = f'{user}@{data.DOMAIN}/{resource}'
        return self

    def leave(self) -> None:
        """Close the WebSocket properly, without <close/>."""
        self.protocol.send_close(1000)
        self._push()
        with contextlib.suppress(TimeoutError):
            while self.protocol.state is not State.CLOSED:
                self._pull(5)
        self.close()

    def close(self) -> None:
        """Cut the connection."""
        self.socket.close()


@contextlib.contextmanager
def later(call: Any) -> Iterator[list[Any]]:
    """Run ``call`` in a thread; its result is the only item of the list after the block."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(call()))
    thread.start()
    yield result
    thread.join(30)
