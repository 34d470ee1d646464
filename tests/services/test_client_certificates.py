"""Users who sign in with a certificate (SASL EXTERNAL, XEP-0178 2): whom it lets in, and whom never."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

from engine.contract.services import CONNECTION_MANAGER
from tests.areas.xmpp_fixtures import ensure, parameter, sign_in, user
from tests.fixtures import data
from tests.fixtures.processes import Engine
from tests.proves import proves
from tests.services.rawclient import STREAM, RawClient
from tests.xmppclient import SignInFailed, XmppClient

__all__ = ['sign_in']

ALICE, BOB = f'alice@{data.DOMAIN}', f'bob@{data.DOMAIN}'
SASL = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
XMPP_ADDRESS = ObjectIdentifier('1.3.6.1.5.5.7.8.5')


class Authority:
    """A certification authority for users."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = self._builder(self.name, self.key, 30).add_extension(x509.BasicConstraints(True, 0), critical=True)
        self.pem = built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
        )  # fmt: skip

    def issue(self, *addresses: str, days: int = 30) -> Path:
        """A PEM file with key and certificate for these addresses; negative ``days``: expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName('a-device.example')]
        names += [x509.OtherName(XMPP_ADDRESS, bytes([0x0C, len(text.encode())]) + text.encode()) for text in addresses]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ALICE)])
        built = self._builder(subject, key, days).add_extension(x509.SubjectAlternativeName(names), critical=False)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self.folder / f'{len(list(self.folder.iterdir()))}.pem'
        path.write_bytes(secret + built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture
def authority(make_user: Callable[..., Any], tmp_path: Path) -> Authority:
    """The authority that the node trusts for its users."""
    ensure(make_user, 'alice', 'bob')
    one = Authority(tmp_path, 'Users of Example')
    data.trust('cup-xmpp-client-trust', one.pem)
    return one


@pytest.fixture
def accepting(authority: Authority) -> Authority:
    """The same, and the parameter is on before the engine starts."""
    parameter(CONNECTION_MANAGER, 'client_certificates', True)
    return authority


def offered(client: RawClient) -> bool:
    return b'<mechanism>EXTERNAL</mechanism>' in client.seen


def external(client: RawClient, authzid: str = '') -> RawClient:
    """Ask to be signed in."""
    token = base64.b64encode(authzid.encode()).decode() or '='
    return client.send(f"<auth {SASL} mechanism='EXTERNAL'>{token}</auth>".encode())


def bind(client: RawClient) -> bytes:
    client.send(STREAM).read_until(b'</stream:features>')
    client.send(b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
    return client.read_until(b'</iq>')


@proves('XMP-27')
def test_a_certificate_signs_its_user_in(accepting: Authority, engine: Engine, sign_in: Any) -> None:
    """A real client library, over STARTTLS and direct TLS, with a wrong password; and who shows none uses passwords."""
    file = accepting.issue('Alice@EXAMPLE.com')
    client = XmppClient(
        ALICE, 'not the password', port=engine.port, mechanism='EXTERNAL', certificate=str(file)
    ).connect()
    bob = sign_in('bob', direct_tls=True, port=engine.tls_port)
    client.say(bob.jid, 'no password needed')
    assert bob.expect('message', body='no password needed').get('from') == client.jid
    client.abort()
    direct = RawClient(engine.tls_port, True, file)
    direct.send(STREAM).read_until(b'</stream:features>')
    external(direct, ALICE).read_until(b'<success')
    assert f'<jid>{ALICE}/'.encode() in bind(direct)
    late = RawClient(engine.port, certificate=file).starttls()
    late.send(f"<auth {SASL} mechanism='EXTERNAL'/>".encode()).read_until(b'<challenge')
    late.send(f'<response {SASL}>=</response>'.encode()).read_until(b'<success')


@proves('XMP-27')
def test_a_certificate_never_signs_in_anybody_else(accepting: Authority, engine: Engine, tmp_path: Path) -> None:
    """Each with the answer XEP-0178 2 gives it, and the stream is over."""
    authority = accepting
    alice, both = authority.issue(ALICE), authority.issue(ALICE, BOB)
    for file, authzid, condition in (
        (alice, BOB, b'invalid-authzid'),
        (alice, f'{ALICE}/phone', b'invalid-authzid'),
        (alice, data.DOMAIN, b'invalid-authzid'),
        (alice, '@', b'invalid-authzid'),
        (both, '', b'invalid-authzid'),  # several addresses: one must be named
        (authority.issue(ALICE, 'alice@elsewhere.example'), 'alice@elsewhere.example', b'invalid-authzid'),
        (authority.issue(f'nobody@{data.DOMAIN}'), '', b'not-authorized'),
    ):
        client = RawClient(engine.port, certificate=file).starttls()
        assert offered(client)
        answer = external(client, authzid).read_all()
        assert b'<%b/>' % condition in answer, (authzid, answer)
        assert b'</stream:stream>' in answer
    named = RawClient(engine.port, certificate=both).starttls()
    external(named, BOB).read_until(b'<success')
    assert f'<jid>{BOB}/'.encode() in bind(named)

    # No address of this server in it, or none shown: not offered, passwords as always.
    for silent in (authority.issue(), authority.issue('alice@elsewhere.example'), authority.issue(data.DOMAIN), None):
        client = RawClient(engine.port, certificate=silent).starttls()
        assert not offered(client)
        assert b'<invalid-mechanism/>' in external(client).read_until(b'</failure>')
        assert b'<success' in client.plain('alice', data.PASSWORD)
    # Another authority, or too old: TLS does not come about.
    for wrong in (Authority(tmp_path, 'Users of Example').issue(ALICE), authority.issue(ALICE, days=-1)):
        client = RawClient(engine.port, certificate=wrong)
        with pytest.raises((ssl.SSLError, OSError, AssertionError)):
            client.starttls()
        assert b'EXTERNAL' not in client.seen
    # A user who may not use the service.
    row = user('alice')
    row.im_enabled = False
    row.save()
    with pytest.raises(SignInFailed):
        XmppClient(ALICE, 'x', port=engine.port, mechanism='EXTERNAL', certificate=str(alice)).connect()


def test_certificates_are_taken_only_where_configured(authority: Authority, engine: Engine) -> None:
    """Off, as installed: no client is asked for a certificate, whoever issued it."""
    client = RawClient(engine.port, certificate=authority.issue(ALICE)).starttls()
    assert not offered(client)
    assert b'<success' in client.plain('alice', data.PASSWORD)
