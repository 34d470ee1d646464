"""Servers that are not what they say, or say what no server should: forged domains, keys, certificates, floods."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.areas.xmpp_fixtures import address, command, sign_in
from tests.fixtures import data
from tests.fixtures.federation import Authority, Federation
from tests.fixtures.processes import Engine
from tests.fixtures.tls import trusting
from tests.proves import proves
from tests.services.rawclient import RawClient

__all__ = ['sign_in']
PARTNER = 'partner.example.net'
HONEST = 'honest.example.net'
EVIL = 'evil.example.net'


class Word:
    """An authoritative server that gives its word: ``verdicts`` by domain, 'valid' unless said otherwise."""

    def __init__(self) -> None:
        self.verdicts: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []
        """(domain, stream id, key) of every request."""
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        seen = ''
        greeted = False
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                seen += data.decode()
                if not greeted and 'xml:lang' in seen and seen.endswith('>'):
                    greeted = True
                    connection.sendall(
                        b"<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback'"
                        b" xmlns:stream='http://etherx.jabber.org/streams' id='w1' version='1.0'><stream:features>"
                        b"<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback></stream:features>"
                    )
                for found in re.finditer(r"<db:verify from='(.*?)' to='(.*?)' id='(.*?)'>(.*?)</db:verify>", seen):
                    ours, theirs, identity, key = found.groups()
                    self.asked.append((theirs, identity, key))
                    verdict = self.verdicts.get(theirs, 'valid')
                    answer = f"<db:verify from='{theirs}' to='{ours}' id='{identity}' type='{verdict}'/>"
                    connection.sendall(answer.encode())
                seen = re.sub(r'<db:verify.*?</db:verify>', '', seen)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


@pytest.fixture
def word(federation: Federation) -> Iterator[Word]:
    """The authoritative server of the three domains of this module."""
    made = Word()
    for domain in (PARTNER, HONEST, EVIL):
        federation.zone.server(domain, (1, 0, made.port, 'localhost'))
    yield made
    made.close()


class Server(RawClient):
    """A raw connection to the server-to-server port."""

    def greet(self, from_: str = PARTNER, to: str = data.DOMAIN, version: str = " version='1.0'") -> Server:
        """Open a stream; up to the features."""
        origin = f" from='{from_}'" if from_ else ''
        self.send(
            f"<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' to='{to}'{origin}{version}"
            f" xmlns:stream='http://etherx.jabber.org/streams'>".encode()
        )
        return self

    def features(self) -> str:
        """Read up to the end of the features."""
        return self.read_until(b'</stream:features>').decode()

    def result(self, from_: str, to: str = data.DOMAIN, key: str = 'abc') -> Server:
        """Ask to be verified."""
        return self.send(f"<db:result from='{from_}' to='{to}'>{key}</db:result>".encode())  # type: ignore[return-value]

    def message(self, from_: str, to: str, body: str = 'hi') -> Server:
        """Send a message."""
        xml = f"<message from='{from_}' to='{to}' type='chat'><body>{body}</body></message>"
        return self.send(xml.encode())  # type: ignore[return-value]

    def secure(self, certificate: Path | None = None, from_: str = PARTNER) -> Server:
        """STARTTLS with a certificate of our own, and the stream after it."""
        self.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.read_until(b'<proceed')
        self.socket = trusting(certificate).wrap_socket(self.socket, server_hostname=data.DOMAIN)
        return self.greet(from_)

    def end(self) -> str:
        """Everything until the server closes."""
        return self.read_all().decode()


def verified(port: int, domain: str = PARTNER) -> Server:
    """A stream on which ``domain`` is verified."""
    server = Server(port).greet(domain)
    server.features()
    server.result(domain).read_until(b"type='valid'")
    return server


@proves('XMP-28', 'XMP-26', 'FED-01', 'CERT-32')
def test_dialback_decides_who_may_send(federation: Federation, word: Word, sign_in: Any) -> None:
    """RFC 6120 8.1.1.2, XEP-0220: only verified pairs of domains travel, several on one stream."""
    from impadmin.presence.models import Domain

    Domain.objects.create(name='second.example.com', key='second.example.com')
    data.publish_configuration()
    (federation.tls / 'cup-xmpp-s2s' / 'own.pem').unlink()
    alice = sign_in('alice')
    port = federation.port
    shown = Server(port).greet()
    shown.features()
    certificate = x509.load_der_x509_certificate(shown.secure().socket.getpeercert(True))  # type: ignore[attr-defined]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {data.DOMAIN, 'second.example.com'} <= set(names.get_values_for_type(x509.DNSName))
    server = Server(port).greet()
    features = server.features()
    assert '<starttls' in features
    assert 'urn:xmpp:features:dialback' in features
    assert 'EXTERNAL' not in features
    server.result(PARTNER).read_until(f"to='{PARTNER}' type='valid'".encode())
    server.message(f'bob@{PARTNER}', alice.bare, 'verified')
    alice.expect('message', body='verified', from_=f'bob@{PARTNER}')
    # another of their domains, and another of ours, on the same stream
    server.result(HONEST).read_until(f"to='{HONEST}' type='valid'".encode())
    server.message(f'eve@{HONEST}', alice.bare, 'multiplexed')
    alice.expect('message', body='multiplexed', from_=f'eve@{HONEST}')
    server.result(PARTNER, 'second.example.com').read_until(b"from='second.example.com'")
    # one that its authoritative server does not know
    word.verdicts[EVIL] = 'invalid'
    server.result(EVIL).read_until(f"to='{EVIL}' type='invalid'".encode())
    server.result(PARTNER, 'nobody.example.com').read_until(b'item-not-found')
    server.message(f'bob@{PARTNER}', alice.bare, 'still here')
    alice.expect('message', body='still here')
    assert [domain for domain, _, _ in word.asked] == [PARTNER, HONEST, PARTNER, EVIL]
    server.message(f'boss@{EVIL}', alice.bare, 'forged')
    assert 'invalid-from' in server.end()
    alice.expect_none('message', body='forged', within=0.2)


@proves('XMP-28')
def test_forged_addresses_end_the_stream(federation: Federation, word: Word, sign_in: Any) -> None:
    alice, port = sign_in('alice'), federation.port
    for sender in (address('bob'), f'x@sub.{PARTNER}', f'x@{HONEST}', 'localhost', f'{PARTNER}.evil.example.net'):
        server = verified(port)
        server.message(sender, alice.bare, 'forged')
        assert 'invalid-from' in server.end(), sender
    for stanza, condition in (
        (f"<message to='{alice.bare}'/>", 'improper-addressing'),
        (f"<message from='a@{PARTNER}'/>", 'improper-addressing'),
        (f"<message from='a@{PARTNER}' to='x@unknown.example.com'/>", 'host-unknown'),
        (f"<message xmlns='jabber:client' from='a@{PARTNER}' to='{alice.bare}'/>", 'invalid-namespace'),
        ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth><x/>", 'invalid-mechanism'),
        ('<unknown/>', 'unsupported-stanza-type'),
        ('<!-- x -->', 'restricted-xml'),
        (f"<message from='a@{PARTNER}' to='{alice.bare}'><body>{'x' * 600_000}</body></message>", 'policy-violation'),
    ):
        assert condition in verified(port).send(stanza.encode()).read_all().decode(), stanza[:80]
    for sneaky in (
        f"<message from='a@{PARTNER}' to='{alice.bare}'></message><message from='bob@example.com' to='{alice.bare}'>"
        '<body>sneaked</body></message>',
        f"<message from='a@{PARTNER}' to='{alice.bare}'/><message xmlns:x='y' from='bob@example.com' "
        f"to='{alice.bare}'><body>sneaked</body></message>",
    ):
        assert 'invalid-from' in verified(port).send(sneaky.encode()).read_all().decode()
    alice.expect_none('message', body='sneaked', within=0.2)
    alice.expect_none('message', body='forged', within=0)


@proves('XMP-28', 'XMP-27')
def test_who_proves_nothing_gets_nothing(
    federation: Federation, word: Word, engine: Engine, authority: Authority, tmp_path: Path
) -> None:
    """Before a domain is verified: no stanzas, no claims to our domains, no floods; certificates of others are worth
    nothing."""
    federation.wait_ready()
    port = federation.port
    stranger = f"<message from='a@{PARTNER}' to='{address('alice')}'><body>x</body></message>".encode()
    assert 'not-authorized' in Server(port).greet().send(stranger).read_all().decode()
    for origin, to, condition in (
        (data.DOMAIN, data.DOMAIN, 'invalid-from'),
        (PARTNER, 'unknown.example.com', 'host-unknown'),
        ('a@b', data.DOMAIN, 'improper-addressing'),
        ('10.0.0.1', data.DOMAIN, 'improper-addressing'),
    ):
        assert condition in Server(port).greet(origin, to).end(), origin
    claims = Server(port).greet()
    claims.features()
    assert 'invalid-from' in claims.result(data.DOMAIN).end()
    unknown = Server(port).greet()
    unknown.features()
    unknown.result('nowhere.example.net').read_until(b"type='error'")
    word.verdicts[EVIL] = 'invalid'
    imposter = Server(port).greet(EVIL)
    imposter.features()
    assert "type='invalid'" in imposter.result(EVIL).end()
    assert 'policy-violation' in Server(port).greet().send(b'<x>' + b'y' * 20_000).read_all().decode()
    flood = b"<db:verify from='partner.example.net' to='example.com' id='1'>k</db:verify>"
    assert 'policy-violation' in Server(port).greet().send(flood * 100).read_all().decode()
    mixed = Server(port).greet().send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><db:result/>")
    assert 'policy-violation' in mixed.read_all().decode()
    legacy = Server(port).greet(version='')
    legacy.read_until(b'>')
    legacy.result(PARTNER).read_until(b"type='valid'")

    # our own keys: nobody can guess one, nor use one for another stream
    oracle = Server(port).greet()
    oracle.features()
    oracle.send(b"<db:verify from='partner.example.net' to='example.com' id='x'>" + b'0' * 64 + b'</db:verify>')
    oracle.read_until(b"id='x' type='invalid'")

    own = Authority(tmp_path / 'stranger')
    for certificate in (
        own.issue(PARTNER),  # of an authority that nobody here trusts
        authority.issue(HONEST),  # for somebody else
        authority.issue(f'*.{PARTNER}'),  # for what is below the domain
        authority.issue(PARTNER, expired=True),
        None,
    ):
        server = Server(port).greet()
        server.features()
        server.secure(certificate)
        assert 'EXTERNAL' not in server.features()
        server.send(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
        server.read_until(b'invalid-mechanism')
        server.result(PARTNER).read_until(b"type='valid'")  # dialback is as good as before
    asked = len(word.asked)
    for certificate in (authority.issue(PARTNER), authority.issue('*.example.net')):
        server = Server(port).greet()
        server.features()
        server.secure(certificate)
        assert '<mechanism>EXTERNAL</mechanism>' in server.features()
        server.send(
            b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>aG9uZXN0LmV4YW1wbGUubmV0</auth>"
        )
        server.read_until(b'invalid-authzid')
        server.send(b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")
        server.read_until(b'<success')
        server.greet().features()
        server.message(f'a@{HONEST}', address('alice'))
        assert 'invalid-from' in server.end()
    assert len(word.asked) == asked, 'a certificate needs no dialback'


@proves('FED-03')
def test_tls_and_certificates_can_be_required(
    federation: Federation, word: Word, engine: Engine, authority: Authority
) -> None:
    federation.settings(security='required', require_certificates=True)
    federation.parameters(server_connections_per_ip=3)
    command('restart', 'xcp_router')
    federation.wait_ready()
    port = federation.port
    server = Server(port).greet()
    features = server.features()
    assert '<required/>' in features
    assert 'urn:xmpp:features:dialback' not in features
    server.result(PARTNER).read_until(b'policy-violation')
    refused = Server(port).greet()
    refused.features()
    refused.secure(authority.issue(HONEST))
    assert 'not-authorized' in refused.end()
    accepted = Server(port).greet()
    accepted.features()
    accepted.secure(authority.issue(PARTNER))
    accepted.features()
    accepted.result(PARTNER).read_until(b"type='valid'")
    assert not word.asked
    third = Server(port).greet()
    third.features()
    assert Server(port).read_all() == b'', 'the fourth connection of one address is closed at once'
