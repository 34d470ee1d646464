"""What is fuzzed: one function for each parser that reads what strangers send. Any exception is a finding.

A target takes bytes, uses the parser as the engine does, and checks what must hold for every input. ``SEEDS`` are
inputs to begin with; ``corpus/NAME/`` has those a longer run found worth keeping.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from engine.cluster import frames
from engine.cluster.link import Cutter
from engine.contract import jid
from engine.contract import privacy as lists
from engine.contract.chat import RoomSettings
from engine.features.devices import LENGTH, described, device_type
from engine.metrics import Counters
from engine.muc.rooms import Rooms
from engine.services.web_connection_manager.http import WebConnection
from engine.sip import pidf
from engine.sip.address import from_jid, read_place, read_uri, read_via, to_jid
from engine.sip.framing import Framing as SipFraming
from engine.sip.message import HEAD_BYTES, BadMessage, read
from engine.xmpp import capabilities, datetimes, forms, rsm, sift
from engine.xmpp.bosh import BadBody, parse_body
from engine.xmpp.component import ComponentStream
from engine.xmpp.fragments import fragments
from engine.xmpp.parser import STREAM_OPEN, StreamError
from engine.xmpp.s2s import Limits, ServerSettings, ServerStream
from engine.xmpp.s2s_in import ReceivingStream
from engine.xmpp.stanza import parse, parse_tree
from engine.xmpp.websocket_framing import Framing
from tests.xmpp.peer import Authenticated, Peer, auth, bound, response, secure

Target = Callable[[bytes], None]
SERVERS = ServerSettings(
    is_local=lambda domain: domain == 'example.com', may=lambda _domain, _direction: True,
    random=lambda count: b'\xaa' * count, secret='s',
)  # fmt: skip
SERVER_OPEN = (
    b"<stream:stream from='example.org' to='example.com' version='1.0' xmlns='jabber:server'"
    b" xmlns:stream='http://etherx.jabber.org/streams'>"
)
COMPONENT_OPEN = SERVER_OPEN.replace(b'jabber:server', b'jabber:component:accept').replace(
    b"to='example.com'", b"to='gate.example.com'"
)


def addresses(data: bytes) -> None:
    """JIDs: preparing is stable, splitting and joining agree, and escaping gives back what it took."""
    text = data.decode(errors='surrogateescape')
    with contextlib.suppress(jid.InvalidJID):
        prepared = jid.prepare(text)
        assert jid.prepare(prepared) == prepared
        local, domain, resource = jid.split(prepared)
        assert jid.bare(text) == (f'{local}@{domain}' if local else domain)
        assert prepared.startswith(jid.bare(text))
        assert all(len(part.encode()) <= jid.PART for part in (local, domain, resource))
        assert lists.forms(text)[0] == prepared
    with contextlib.suppress(jid.InvalidJID):
        escaped = jid.escape_local(text)
        assert not set('"&\'/:<>@ ') & set(escaped)
        assert jid.unescape_local(escaped) == text.strip()
        assert jid.prepare_local(escaped) == jid.prepare_local(jid.prepare_local(escaped))


def times(data: bytes) -> None:
    """Dates and times: read or refused; what is read is written and read the same."""
    text = data.decode(errors='replace')
    with contextlib.suppress(datetimes.InvalidTime):
        when = datetimes.parse(text)
        assert when.utcoffset() == timedelta()
        assert datetimes.parse(datetimes.format(when, 6)) == when
    with contextlib.suppress(datetimes.InvalidTime):
        datetimes.parse_date(text)
    with contextlib.suppress(datetimes.InvalidTime):
        datetimes.parse_time(text)


def _inside(tag: str, namespace: str, data: bytes) -> Element | None:
    """The element with ``data`` as its content, or None when that is no XML or would not get through a stream."""
    if b'<!' in data or b'<?' in data:
        return None
    try:
        found = parse_tree(b"<%b xmlns='%b'>%b</%b>" % (tag.encode(), namespace.encode(), data, tag.encode()))
    except (ParseError, ValueError, IndexError):
        return None
    return found


KNOWN = {
    'who': forms.Field('who', 'jid-multi'),
    'on': forms.Field('on', 'boolean'),
    'model': forms.Field('model', 'list-single', options=(('open', ''), ('closed', ''))),
    'text': forms.Field('text', 'text-multi'),
}


def data_forms(data: bytes) -> None:
    """Data forms: read or refused; what is read is built and read the same."""
    element = _inside('x', 'jabber:x:data', data[1:])
    if element is None or not data:
        return
    element.set('type', ('form', 'submit', 'cancel', 'result')[data[0] % 4])
    with contextlib.suppress(forms.FormError):
        form = forms.parse(element)
        assert forms.parse(parse_tree(form.xml().encode())) == form
        form.number('text')
        form.flag('on')
    with contextlib.suppress(forms.FormError):
        submission = forms.submitted(element, 'urn:x', KNOWN)
        assert submission.form_type == ''
        assert all(jid.prepare(value) == value for value in submission.values('who'))


def privacy_lists(data: bytes) -> None:
    """Privacy lists: read or refused; what is read is written and read the same, and decides about anybody."""
    element = _inside('list', lists.NS, data)
    if element is None:
        return
    element.set('name', 'fuzz')
    with contextlib.suppress(lists.PrivacyError):
        name, items = lists.read_list(element, 100)
        again = parse_tree(f"<query xmlns='{lists.NS}'>{lists.list_xml(name, items)}</query>".encode())[0]
        assert lists.read_list(again, 100) == (name, items)
        rules = lists.Rules(name, items)
        first = next(iter(items), None)
        for peer in ('a@b.c/d', 'b.c', first.value if first else ''):
            assert rules.allows('in', 'message', peer, lambda _bare: (1, ('g',))) in (True, False)
        assert not lists.blocked(lists.unblock(lists.block(items, ['x@y']), None))


def sifting(data: bytes) -> None:
    """SIFT requests: read or refused."""
    element = _inside('sift', sift.NS, data)
    if element is not None:
        with contextlib.suppress(sift.SiftError):
            rules = sift.read(element)
            sift.passes(rules, 'message', 'a@b', 'c@d/e', True, b'<message><body/></message>')


def stanzas(data: bytes) -> None:
    """The stream parser behind sign-in: however the bytes are cut, the same stanzas come out, each one well-formed,
    with the sender stamped; the payloads can be cut out of them."""
    if not data:
        return
    whole, pieces = bound(), bound()
    whole.stream.receive(data)
    step = 1 + data[0] % 17
    for start in range(0, len(data), step):
        pieces.stream.receive(data[start : start + step])
    assert [stanza.raw for stanza in whole.stanzas] == [stanza.raw for stanza in pieces.stanzas]
    for stanza in whole.stanzas:
        tree = parse_tree(stanza.raw)
        assert tree.get('from') == stanza.from_
        cut = fragments(stanza.raw, 1)
        assert [parse_tree(cut[place,]).tag for place in range(len(tree))] == [child.tag for child in tree]


def sign_in(data: bytes) -> None:
    """The stream before sign-in: nothing is delivered, nobody is let in, nothing raises."""
    peer = Peer()
    step = 1 + (data[0] % 29 if data else 0)
    for start in range(0, len(data), step):
        peer.stream.receive(data[start : start + step])
    assert not peer.stanzas


def mechanisms(data: bytes) -> None:
    """SASL messages in the place of every mechanism's: nobody gets in, and nothing but an answer comes."""
    for mechanism in ('PLAIN', 'SCRAM-SHA-1', 'SCRAM-SHA-256-PLUS', 'EXTERNAL'):
        peer = secure()
        first, _, rest = data.partition(b'\n')
        peer.say(auth(mechanism, first))
        peer.say(response(rest))
        assert not peer.of(Authenticated) or b'juliet' in data
        assert not peer.stanzas


def _received(stream: ServerStream, data: bytes) -> list[tuple[str, str]]:
    """Feed a stream between servers byte by byte in portions; (from, to) of what it lets through."""
    found: list[tuple[str, str]] = []
    stream.on_stanza = lambda remote, local, _name, _attrs, raw: found.append((remote, local, parse_tree(raw))[:2])
    stream.receive(data[:300])
    step = 1 + (data[0] % 31 if data else 0)
    for start in range(300, len(data), step):
        stream.receive(data[start : start + step])
    return found


def servers(data: bytes) -> None:
    """What another server says: before it has proven a domain nothing passes, whatever it claims."""
    for trusted in (False, True):
        stream = ReceivingStream(SERVERS, lambda _event: None, 0.0)
        stream.receive(SERVER_OPEN)
        if trusted:
            stream.pairs.add(('example.org', 'example.com'))
        assert set(_received(stream, data)) <= stream.pairs
        assert len(stream.pairs) <= 1, stream.pairs


def components(data: bytes) -> None:
    """What a component says: nothing passes without its secret."""
    stream = ComponentStream(
        Limits(), lambda count: b'\xaa' * count, lambda domain: 'secret' * (domain == 'gate.example.com'), _nobody, 0.0
    )
    stream.receive(COMPONENT_OPEN)
    assert not _received(stream, data)


def _nobody(event: object) -> None:
    assert type(event).__name__ != 'Connected'


def bosh(data: bytes) -> None:
    """BOSH bodies: complete elements that stand by themselves, or refused."""
    with contextlib.suppress(BadBody):
        for child in parse_body(data, 4000).children:
            parse_tree(child)


def websocket(data: bytes) -> None:
    """WebSocket messages: the first is <open/>, a later one is one element of the stream, or refused."""
    framing = Framing(4000, lambda host: host)
    for message in data.split(b'\n'):
        with contextlib.suppress(StreamError):
            passed = framing.decode(message)
            if passed.startswith((b'<message', b'<presence', b'<iq')):
                with contextlib.suppress(ParseError):
                    assert parse_tree(passed).tag


class _Web:
    """What a connection of a web client needs of its manager and its socket; ``said`` is what it writes."""

    def __init__(self) -> None:
        self.loop, self.counters, self.said, self.closed = self, Counters(), bytearray(), False
        self.settings = SimpleNamespace(limits=SimpleNamespace(before_auth_s=30.0))
        self.most_body, self.origins = 1000, {'https://chat.example.com'}
        self.places = {'/http-bind': 'bosh'}
        self.later: deque[Callable[[], None]] = deque()
        self.write = self.said.extend

    def on_bosh(self, request: WebConnection, body: bytes) -> None:
        request.answer(b'<body>%d</body>' % len(body), 'text/xml')

    def time(self) -> float:
        return 0.0

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.later.append(callback)

    def call_at(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(cancel=lambda: None)

    call_later = call_at

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def http(data: bytes) -> None:
    """HTTP of web clients: answered or refused, with the same statuses however it is cut."""
    said = []
    for size in (len(data) or 1, 5):
        web: Any = _Web()
        connection = WebConnection(web, direct=False)
        connection._transport = web
        for start in range(0, len(data), size):
            if not web.closed and connection._http is not None:
                connection._http_received(connection._http, data[start : start + size])
            while web.later:
                web.later.popleft()()
        said.append(re.findall(rb'HTTP/1.1 ([2-5][0-9]+) ', web.said))
    assert said[0] == said[1], said


def discovery(data: bytes) -> None:
    """Answers to disco#info and page requests: what clients say of themselves, read or refused."""
    query = _inside('query', 'http://jabber.org/protocol/disco#info', data)
    if query is not None:
        assert not capabilities.verify(query, capabilities.Caps('n', 'v', 'sha-1'))
        client = described(query)
        assert len(client.words) <= LENGTH
        assert device_type('', client) in ('Desktop', 'iPad', 'iPhone', 'Android', 'Mobile')
        with contextlib.suppress(rsm.SetError):
            rsm.parse(query)
    capabilities.tag(b"<presence><c xmlns='http://jabber.org/protocol/caps' " + data + b'/></presence>')


def node_frames(data: bytes) -> None:
    """What comes over a link between nodes: frames or ValueError, in any portions alike."""
    whole, pieces = [], []
    for found, step in ((whole, len(data) or 1), (pieces, 1 + (data[0] % 13 if data else 0))):
        cutter = Cutter(4000)
        with contextlib.suppress(ValueError):
            for start in range(0, len(data), step):
                cutter.feed(data[start : start + step], lambda frame, found=found: found.append(frame) or True)
    assert whole == pieces


def sip(data: bytes) -> None:
    """SIP: a datagram and a stream are read or refused; what is read is written and read the same."""
    with contextlib.suppress(BadMessage):
        SipFraming().feed(data)
    with contextlib.suppress(BadMessage):
        found = read(data)
        sent = found.encode()
        assert len(sent) > HEAD_BYTES or read(sent).body == found.body
        for header in found.headers.lines:
            with contextlib.suppress(BadMessage):
                read_place(header[1])
            with contextlib.suppress(BadMessage):
                from_jid(to_jid(read_uri(header[1])))
            with contextlib.suppress(BadMessage):
                read_via(header[1])
        with contextlib.suppress(BadMessage):
            pidf.read(found.body)


_ROOM = 'room@chat.example.com'
_KINDS = (
    "message type='groupchat'", "message type='chat'", 'message', "message type='error'", 'presence',
    "presence type='unavailable'", "iq type='get' id='1'", "iq type='set' id='2'", "iq type='result' id='1-1'",
    "iq type='error' id='2-1'",
)  # fmt: skip
_PEOPLE = ('a@example.com/1', 'b@example.com/1', 'a@example.com/2', 'b@example.org')
_PLACES = (_ROOM, f'{_ROOM}/a', f'{_ROOM}/b', 'chat.example.com', 'other@chat.example.com/a')


def rooms(data: bytes) -> None:
    """A chat node that hears anything from anybody: each line is who (one byte), what and where (one byte each) and the
    content. It never fails, what it sends is whole and addressed, and it knows who is where."""
    node = Rooms(RoomSettings(gc1=True, self_membership=True, strip_xhtml=True, owners_change_anonymous=True))
    enter = b"\x04%c<x xmlns='http://jabber.org/protocol/muc'/>"
    opened = (
        b"\x07\0<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>"
    )
    for line in (b'\0' + enter % 1, b'\0' + opened, b'\1' + enter % 2, *data.split(b'\n')[:50]):
        if len(line) < 3 or b'<!' in line or b'<?' in line:
            continue
        who, kind = _PEOPLE[line[0] % len(_PEOPLE)], _KINDS[line[1] % len(_KINDS)]
        to, name = _PLACES[line[2] % len(_PLACES)], kind.partition(' ')[0]
        raw = f"<{kind} from='{who}' to='{to}'>".encode() + line[3:] + f'</{name}>'.encode()
        try:
            stanza = parse(raw)
        except (ParseError, ValueError, IndexError):
            continue
        for receiver, sent in node.receive(who, to, stanza, 1e9):
            tree = parse_tree(sent)
            assert (tree.get('to'), bool(tree.get('from'))) == (receiver, True)
        inside = {(full, room.jid) for room in node.rooms.values() for full in room.by_jid}
        assert inside == {(full, jid) for full, jids in node.where.items() for jid in jids}
        assert all(room.occupants and set(room.fan) == set(room.by_jid) for room in node.rooms.values())


TARGETS: dict[str, Target] = {
    'bosh': bosh,
    'components': components,
    'discovery': discovery,
    'http': http,
    'mechanisms': mechanisms,
    'node_frames': node_frames,
    'rooms': rooms,
    'servers': servers,
    'sip': sip,
    'websocket': websocket,
    'addresses': addresses,
    'times': times,
    'forms': data_forms,
    'privacy': privacy_lists,
    'sift': sifting,
    'stanzas': stanzas,
    'sign_in': sign_in,
}
SEEDS: dict[str, tuple[bytes, ...]] = {
    'http': (
        b'POST /http-bind HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n<a/>\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n',
        b'POST /http-bind HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<a/>\r\n0\r\n\r\n',
        b'OPTIONS /http-bind HTTP/1.1\r\nHost: a\r\nOrigin: https://chat.example.com\r\n\r\n',
        b'POST /http-bind HTTP/1.0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n',
        b'PUT /http-bind HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc',
    ),
    'bosh': (
        b"<body rid='1' sid='s' xmlns='http://jabber.org/protocol/httpbind'><message xmlns='jabber:client'/></body>",
        b"<body xmlns='http://jabber.org/protocol/httpbind' xmlns:x='urn:x' rid='2' type='terminate'><x:a/>text</body>",
    ),
    'components': (
        b"<handshake>0123456789012345678901234567890123456789</handshake><message from='a@gate.example.com' to='b@c'/>",
        b"<message from='gate.example.com' to='b@example.com'><body>x</body></message>",
    ),
    'discovery': (
        b"<identity category='client' type='phone' name='A'/><feature var='urn:xmpp:ping'/>"
        b"<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE'><value>urn:xmpp:dataforms:softwareinfo</value>"
        b"</field><field var='os'><value>iOS</value></field></x>",
        b"<set xmlns='http://jabber.org/protocol/rsm'><max>10</max><before/><index>3</index></set>",
    ),
    'mechanisms': (
        b'\0nobody\0wrong\n', b'n,,n=nobody,r=abc\nc=biws,r=abc,p=AAAA', b'n,a=x@example.com,n=nobody,r=abc\n',
        b'p=tls-server-end-point,,n=nobody,r=abc\nc=cD10bHM=,r=abc,p=AAAA', b'y,,n=,r=', b'=\n=',
    ),
    'node_frames': (
        frames.encode(frames.Hello(1, 1, 's', 'k', 0), frames.Ping(), frames.Ack(3)),
        frames.encode(frames.Routed('message', {'to': 'a@b'}, b'<message/>'), frames.Online(['a@b'], True)) * 2,
        b'\0\0\0\x05\x91\x92\x01',
    ),
    'sip': (
        b'MESSAGE sip:b%20c@example.com SIP/2.0\r\nv: SIP/2.0/TCP [::1]:5060;branch=z9hG4bK1;rport\r\n'
        b'f: "Al, \\"ice" <sip:a@example.com>;tag=1\r\nTo:\r\n <sips:b@example.com>\r\nl: 2\r\n\r\nhi',
        b"PUBLISH sip:a@b SIP/2.0\r\nContact: *\r\n\r\n<presence xmlns='urn:ietf:params:xml:ns:pidf'><tuple id='a'>"
        b'<status><basic>open</basic></status><note>x</note></tuple></presence>',
        b'\r\n\r\nSIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;received=b\r\nContent-Length: 0\r\n\r\n',
    ),
    'servers': (
        b"<db:result xmlns:db='jabber:server:dialback' from='example.org' to='example.com'>key</db:result>"
        b"<message from='a@example.org' to='b@example.com'><body>x</body></message>",
        b"<message from='a@example.com' to='b@example.com'/>",
        b"<presence from='a@example.org' to='b@example.com' xmlns:d='jabber:server'><d:x/></presence >"
        b"<iq from='a@EXAMPLE.org' to='b@example.com' type='get' id='1'><q xmlns='jabber:server'/></iq>",
        b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
    ),
    'websocket': (
        b"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>\n<message to='a@b'/>\n"
        b"<iq type='get' id='1'><p xmlns='u'/></iq>\n<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
    ),
    'addresses': (
        b'juliet@example.com/balcony', 'Ünï@bücher.example/ſ'.encode(), b'd\\27artagnan@[::1]/x y', b'\\5c5c20@a',
        'ＦＵＬＬ＠x'.encode(), '\u0130@x.tr'.encode(), b'a@b@c', b'@', b'/', 'æ／@b/ſ'.encode(), 'bob＠b@c'.encode(),
        'a\u200d@xn--a'.encode(),
    ),
    'times': (b'2026-03-01T12:30:00.123Z', b'1969-07-20T21:56:15-05:00', b'2026-03-01', b'16:00:00+01:00'),
    'forms': (
        b"1<field var='FORM_TYPE' type='hidden'><value>urn:x</value></field>"
        b"<field var='who'><value>A@b</value></field>",
        b"0<title>t</title><field var='model' type='list-single'><option label='l'><value>open</value></option>"
        b'</field>',
        b"3<reported><field var='a'/></reported><item><field var='a'><value>1</value></field></item>",
    ),
    'privacy': (
        b"<item type='jid' value='a@b' action='deny' order='1'/><item action='allow' order='2'><message/><iq/></item>",
        b"<item type='group' value='g' action='deny' order='3'><presence-in/></item>",
        b"<item type='subscription' value='both' action='allow' order='4294967295'/>",
    ),
    'rooms': (
        b"\1\0\0<body>hi</body><stanza-id xmlns='urn:xmpp:sid:0' id='1' by='room@chat.example.com'/>\n"
        b"\0\0\0<subject>s</subject>\n\1\1\1<body>psst</body>\n\2\4\1<show>away</show>\n\3\4\2",
        b"\0\7\0<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='b' role='none'><reason>r</reason>"
        b"</item></query>\n\0\7\0<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='b@example.com' "
        b"affiliation='member'/></query>\n\0\6\0<query xmlns='http://jabber.org/protocol/muc#admin'><item "
        b"affiliation='member'/></query>",
        b"\0\7\0<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'><field "
        b"var='muc#roomconfig_whois'><value>moderators</value></field><field var='muc#roomconfig_maxusers'><value>9"
        b"</value></field></x></query>\n\0\6\0<query xmlns='http://jabber.org/protocol/muc#owner'/>",
        b"\1\2\0<x xmlns='http://jabber.org/protocol/muc#user'><invite to='c@example.com'><reason>r</reason>"
        b"</invite></x>\n\1\2\0<x xmlns='jabber:x:data' type='submit'><field var='muc#role'><value>participant"
        b"</value></field></x>\n\3\7\0<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'><field "
        b"var='muc#register_roomnick'><value>c</value></field></x></query>\n\0\7\0<query "
        b"xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='x@y'><reason>r</reason></destroy></query>",
        b"\0\6\3<query xmlns='http://jabber.org/protocol/disco#items'><set xmlns='http://jabber.org/protocol/rsm'><max>1"
        b"</max></set></query>\n\0\6\2<ping xmlns='urn:xmpp:ping'/>\n\1\10\1\n\0\6\0<query "
        b"xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>",
        b"\1\4\2<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='1' since='2001-01-01T00:00:00Z'/>"
        b"<password>p</password></x>\n\1\3\1<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        b'</error>',
    ),
    'sift': (b"<message sender='others'><allow name='body' ns='jabber:client'/></message><presence/>",),
    'stanzas': (
        b"<message to='a@b' type='chat'><body>x &amp; y</body></message><presence/>"
        b"<iq type='get' id='1'><p xmlns='u'/></iq>",
        b"<presence><c xmlns='urn:c'/></presence ><message><![CDATA[</message>]]></message>",
        b"<iq from='x@y' type='set' id='2'><q xmlns='a' xmlns:b='c'><b:d b:e='f'/></q></iq>",
    ),
    'sign_in': (
        b"<stream:stream to='example.com' version='1.0' xmlns='jabber:client' "
        b"xmlns:stream='http://etherx.jabber.org/streams'><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        STREAM_OPEN,
    ),
}  # fmt: skip
