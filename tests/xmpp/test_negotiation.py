"""Conversations up to bind: what goes in, what must come out. No socket, no waiting."""

from __future__ import annotations

import pytest

from engine.xmpp.c2s import Authenticated, BindRequest, Close, Limits, StartTLS
from tests.xmpp.peer import BIND, BINDINGS, OPEN, Peer, auth, bound, logged_in, secure

STARTTLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
    b"id='aaaaaaaaaaaaaaaaaaaa' from='example.com' version='1.0' xml:lang='en'>"
)
MECHANISMS = (
    b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-256-PLUS</mechanism>"
    b'<mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism>'
    b"<mechanism>PLAIN</mechanism></mechanisms><sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>"
    b"<channel-binding type='tls-exporter'/><channel-binding type='tls-server-end-point'/></sasl-channel-binding>"
)


def ended(peer: Peer, condition: str) -> None:
    """The stream has ended with this error, told to the client."""
    assert peer.closed is not None, peer.events
    assert peer.closed.condition == condition, peer.closed
    if condition:
        assert f"<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'".encode() in peer.out
    assert peer.out.endswith(b'</stream:stream>')
    assert peer.say(b"<message to='a@example.com'/>") == b''


def test_the_whole_way_with_starttls() -> None:
    conversation = [
        (OPEN, HEADER + b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
               b'</stream:features>'),
        (STARTTLS, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        (OPEN, HEADER + b'<stream:features>' + MECHANISMS + b'</stream:features>'),
        (auth('PLAIN', b'\0juliet\0secret'), b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'></success>"),
        (OPEN, HEADER + b"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
               b"<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>"
               b"<ver xmlns='urn:xmpp:features:rosterver'/><sub xmlns='urn:xmpp:features:pre-approval'/>"
               b"<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/></stream:features>"),
        (BIND, b"<iq type='result' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
               b'<jid>juliet@example.com/desk</jid></bind></iq>'),
        (b"<iq type='set' id='s1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
         b"<iq type='result' id='s1' to='juliet@example.com/desk'/>"),
        (b' \n', b''),
        (b'</stream:stream>', b'</stream:stream>'),
    ]  # fmt: skip
    for step in (1, 7, 10_000):
        peer = Peer(features=b"<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='v'/>")
        assert peer.stream.deadline == 1030.0
        for said, expected in conversation:
            heard = b''.join(peer.say(said[at : at + step]) for at in range(0, len(said), step))
            assert heard == expected
        assert peer.closed == Close()
        assert peer.of(Authenticated) == [Authenticated('juliet@example.com', 'PLAIN')]
        assert peer.stream.deadline is None


@pytest.mark.parametrize(
    ('header', 'condition'),
    [
        (OPEN.replace(b" to='example.com'", b''), 'improper-addressing'),
        (OPEN.replace(b'example.com', b'elsewhere.org'), 'host-unknown'),
        (OPEN.replace(b'example.com', b'ex ample'), 'host-unknown'),
        (OPEN.replace(b"version='1.0' xml", b'xml'), 'unsupported-version'),
        (OPEN.replace(b"version='1.0' xml", b"version='x' xml"), 'unsupported-version'),
        (OPEN.replace(b'etherx', b'other'), 'invalid-namespace'),
        (OPEN.replace(b'jabber:client', b'jabber:server'), 'invalid-namespace'),
        (OPEN.replace(b'stream:stream', b'stream:flow'), 'bad-format'),
        (OPEN.replace(b"?>", b" encoding='ISO-8859-1'?>"), 'unsupported-encoding'),
        (OPEN.decode().encode('utf-16'), 'unsupported-encoding'),
        (b'<!DOCTYPE a [<!ENTITY b "c">]>' + OPEN[21:], 'restricted-xml'),
        (b'<!-- hello -->' + OPEN[21:], 'restricted-xml'),
        (b'<?hello world?>' + OPEN[21:], 'restricted-xml'),
        (b'GET / HTTP/1.1\r\nX: >\r\n\r\n', 'not-well-formed'),
        (OPEN.replace(b"to='", b"from='mallory@@' to='"), 'invalid-from'),
        (OPEN.replace(b"to='", b"foo:bar='' to='"), 'bad-namespace-prefix'),
        (OPEN.replace(b"to='", b"bar='\xc3\x28' to='"), 'not-well-formed'),
    ],
)  # fmt: skip
def test_a_wrong_stream_header_is_answered_with_header_and_error(header: bytes, condition: str) -> None:
    peer = Peer()
    peer.say(header)
    assert peer.out.startswith(b"<?xml version='1.0'?><stream:stream ")
    ended(peer, condition)


def test_domain_and_from_are_prepared() -> None:
    peer = Peer()
    assert b"from='example.net' to='romeo@example.net'" in peer.say(
        OPEN.replace(b"to='example.com'", b"to='EXAMPLE.net' from='romeo@example.net'")
    )


def test_another_domain_or_sender_after_login_is_refused() -> None:
    peer = secure()
    peer.say(auth('PLAIN', b'\0juliet\0secret'))
    peer.say(OPEN.replace(b'example.com', b'example.net'))
    ended(peer, 'host-unknown')
    peer = secure()
    peer.say(auth('PLAIN', b'\0juliet\0secret'))
    peer.say(OPEN.replace(b"to='", b"from='romeo@example.com' to='"))
    ended(peer, 'invalid-from')


def test_nothing_plain_may_be_smuggled_into_tls() -> None:
    peer = Peer()
    peer.say(OPEN)
    peer.say(STARTTLS + auth('PLAIN', b'\0juliet\0secret'))
    ended(peer, 'policy-violation')
    assert not peer.of(StartTLS)
    peer = Peer(answer=False)
    peer.say(OPEN)
    peer.say(STARTTLS)
    peer.say(b' <')
    ended(peer, 'policy-violation')


def test_starttls_under_tls_fails_and_ends_the_stream() -> None:
    peer = secure()
    peer.say(STARTTLS)
    assert peer.out == b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"


def test_without_tls_no_login_while_it_is_required() -> None:
    peer = Peer()
    assert b'<mechanisms' not in peer.say(OPEN)
    assert b'<encryption-required/>' in peer.say(auth('PLAIN', b'\0juliet\0secret'))
    assert not peer.of(Authenticated)


def test_without_tls_only_scram_when_secure_mode_is_off() -> None:
    peer = Peer(tls_required=False)
    out = peer.say(OPEN)
    assert b'<starttls' in out
    assert b'<required/>' not in out
    assert b'<mechanism>SCRAM-SHA-256</mechanism><mechanism>SCRAM-SHA-1</mechanism></mechanisms>' in out
    assert b'<invalid-mechanism/>' in peer.say(auth('PLAIN', b'\0juliet\0secret'))
    peer = Peer(tls_required=False, tls_available=False)
    assert b'<starttls' not in peer.say(OPEN)


@pytest.mark.parametrize('stanza', [b'<message/>', b'<presence/>',
    b"<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>",
                                    BIND])  # fmt: skip
def test_a_stanza_before_login_ends_the_stream(stanza: bytes) -> None:
    peer = secure()
    peer.say(stanza)
    ended(peer, 'not-authorized')


@pytest.mark.parametrize(
    'stanza', [b'<message/>', b'<presence/>', b"<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>"]
)
def test_a_stanza_before_bind_ends_the_stream(stanza: bytes) -> None:
    peer = logged_in()
    peer.say(stanza)
    ended(peer, 'not-authorized')


def test_unknown_elements_end_the_stream() -> None:
    for peer in (secure(), logged_in(), bound()):
        peer.say(b"<hello xmlns='urn:x'/>")
        ended(peer, 'unsupported-stanza-type')


def test_bytes_elements_and_time_before_login_are_bounded() -> None:
    peer = secure()
    peer.say(b'<a>' + b'x' * 8192)
    ended(peer, 'policy-violation')
    peer = secure()
    for _ in range(10):
        peer.say(b' ' * 1000)
    assert peer.closed is not None
    assert peer.closed.condition == 'policy-violation'
    peer = secure()
    peer.say(b'<a>' * 40)
    ended(peer, 'policy-violation')
    peer = secure(limits=Limits(before_auth_s=5))
    peer.stream.tick(1004.9)
    assert peer.closed is None
    peer.stream.tick(1005.0)
    ended(peer, 'connection-timeout')


def test_the_deadline_holds_until_bind() -> None:
    peer = logged_in()
    peer.stream.tick(1030.0)
    ended(peer, 'connection-timeout')
    peer = bound()
    peer.stream.tick(99999.0)
    assert peer.closed is None


def test_a_resource_is_made_up_when_none_is_given() -> None:
    peer = logged_in()
    out = peer.say(b"<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
    assert b'<jid>juliet@example.com/aaaaaaaaaaaaaaaa</jid>' in out


def test_bind_may_be_refused_and_tried_again() -> None:
    peer = logged_in(answer=True)
    peer.answer = False
    assert peer.say(BIND) == b''
    peer.out = b''
    peer.stream.bind_refused('resource-constraint', 'Too many.')
    assert peer.out == (
        b"<iq type='error' id='b1'><error type='wait'>"
        b"<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
        b"<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Too many.</text></error></iq>"
    )
    bad = peer.say(BIND.replace(b'desk', b'a&#x7;'.replace(b'&#x7;', b'&#x85;')))
    assert b"<error type='modify'><bad-request" in bad
    peer.answer = True
    assert b'<jid>juliet@example.com/desk</jid>' in peer.say(BIND)


def test_what_is_pipelined_behind_bind_waits_for_the_answer() -> None:
    peer = logged_in()
    peer.answer = False
    peer.say(BIND + b"<presence/><message to='a@example.com'/>")
    peer.say(b'<iq')
    peer.say(b" type='get' id='1'/>")
    assert peer.stanzas == []
    assert peer.of(BindRequest) == [BindRequest('juliet@example.com', 'desk')]
    peer.stream.bound('juliet@example.com/desk')
    assert [stanza.name for stanza in peer.stanzas] == ['presence', 'message', 'iq']


def test_see_other_host_names_the_host() -> None:
    peer = logged_in()
    peer.out = b''
    peer.stream.close('see-other-host', host='node2.example.com')
    assert b"<see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>node2.example.com</see-other-host>" in peer.out
    ended(peer, 'see-other-host')


def test_a_stream_that_is_gone_says_nothing() -> None:
    peer = secure()
    count = len(peer.events)
    peer.stream.eof()
    peer.stream.close('reset')
    peer.stream.tick(99999.0)
    peer.stream.credentials(None)
    peer.stream.bound('a@b/c')
    assert len(peer.events) == count


def test_bindings_are_offered_only_when_the_shell_has_them() -> None:
    peer = Peer()
    peer.stream.tls_established({})
    out = peer.say(OPEN)
    assert b'-PLUS' not in out
    assert b'sasl-channel-binding' not in out
    peer = Peer()
    peer.stream.tls_established({'tls-server-end-point': BINDINGS['tls-server-end-point'], 'tls-unique': (b'no',)})
    assert peer.say(OPEN).count(b'<channel-binding ') == 1
