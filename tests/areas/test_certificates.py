"""Security > Certificate Management: requests, signed and self-signed certificates, trust stores, and what real TLS
peers then see."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.areas.test_command_line import imp
from tests.areas.test_restarts_notifications import running
from tests.areas.xmpp_fixtures import command, ensure, in_force, sign_in
from tests.fixtures import data
from tests.fixtures.authority import Signer, pem
from tests.fixtures.federation import Federation
from tests.fixtures.processes import Engine, wait_until
from tests.fixtures.tls import trusting
from tests.proves import proves
from tests.services.rawclient import STREAM, RawClient
from tests.services.test_hostile_servers import Server

__all__ = ['imp', 'running', 'sign_in']
PAGE = '/api/v1/certificates/'


def shown(port: int, ciphers: str = '') -> x509.Certificate:
    """The certificate on a port with TLS from the first byte."""
    context = trusting()
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    with socket.create_connection(('127.0.0.1', port), 5) as raw, context.wrap_socket(raw) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(True) or b'')


def verified(port: int, root: x509.Certificate, name: str) -> bool:
    """Whether a strict client takes the server on a port for ``name``."""
    context = ssl.create_default_context(cadata=pem(root).decode())
    try:
        with socket.create_connection(('127.0.0.1', port), 5) as raw, context.wrap_socket(raw, server_hostname=name):
            return True
    except ssl.SSLCertVerificationError:
        return False


@pytest.fixture
def key_known(db: None) -> None:
    """The node has published its key, as it does when it starts."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from engine.contract.issuing import public_text
    from impadmin.osadmin.models import NodeKey
    from impadmin.system.models import Node

    NodeKey.objects.create(node=Node.objects.get(name=data.NODE), public=public_text(X25519PrivateKey.generate()))


@pytest.fixture
def client(api: Callable[..., Any]) -> Any:
    """REST as an administrator."""
    return api('administrator')


def ask(client: Any, action: str, purpose: str = 'cup-xmpp', place: str = data.NODE, **values: Any) -> Any:
    """generate or csr; the answer's data."""
    answer = client.post(f'{PAGE}{action}/', {'purpose': purpose, 'distribution': place, **values})
    assert answer.status_code == 200, answer.json()
    return answer.json()['data']


def upload(client: Any, purpose: str, *content: x509.Certificate | bytes, **values: Any) -> Any:
    """Upload Certificate/Certificate Chain."""
    raw = b''.join(one if isinstance(one, bytes) else pem(one) for one in content)
    form = {'purpose': purpose, 'file': SimpleUploadedFile('c.pem', raw), **values}
    return client.post(f'{PAGE}upload/', form, format='multipart')


def refused(answer: Any, field: str = 'file') -> str:
    """The text of a refusal at a field."""
    assert answer.status_code == 400, answer.json()
    return ' '.join(answer.json()['errors'][field])


def notices(client: Any) -> set[tuple[str, str, str]]:
    """(rule, service, node) of what waits for a restart."""
    found = client.get('/api/v1/notifications/').json()['results']
    return {(one['rule'], one['service'], one['node']) for one in found if one['kind'] == 'restart'}


def advice(client: Any) -> list[str]:
    """Standing advice."""
    return [one['reason'] for one in client.get('/api/v1/notifications/').json()['results'] if one['kind'] == 'advice']


@proves('CERT-01', 'CERT-18', 'CERT-21', 'CERT-22', 'CERT-27', 'CERT-28', 'CERT-30', 'CERT-35', 'CERT-36',
        'RST-R30')  # fmt: skip
def test_a_signed_certificate_is_shown_after_the_restart(client: Any, engine: Engine, make_user: Any) -> None:
    ensure(make_user, 'alice')
    before = shown(engine.tls_port)
    root, other = Signer('Test Root'), Signer('Other Root')
    middle = Signer('Test Intermediate', root)
    csr = ask(client, 'csr', key_length='3072')
    leaf = middle.sign(csr['csr'].encode())
    assert shown(engine.tls_port) == before, 'a request changes nothing'

    assert 'Test Intermediate is not available in the trust store cup-xmpp-trust' in refused(
        upload(client, 'cup-xmpp', leaf)
    )
    assert 'Name the certificate before it' in refused(
        upload(client, 'cup-xmpp-trust', middle.certificate), 'preceding'
    )
    assert 'has no certificate Test Root' in refused(
        upload(client, 'cup-xmpp-trust', middle.certificate, preceding='Test Root'), 'preceding'
    )
    assert upload(client, 'cup-xmpp-trust', root.certificate, other.certificate).status_code == 200
    assert 'is not signed by Other Root' in refused(
        upload(client, 'cup-xmpp-trust', middle.certificate, preceding='Other Root'), 'preceding'
    )
    assert upload(client, 'cup-xmpp-trust', middle.certificate, preceding='Test Root').status_code == 200
    assert 'cup-xmpp-trust has it already' in refused(upload(client, 'cup-xmpp-trust', root.certificate))
    done = upload(client, 'cup-xmpp', leaf, description='By our own authority')
    assert done.status_code == 200, done.json()

    listed = client.get(f'{PAGE}{done.json()["data"]["id"]}/').json()
    assert (listed['name'], listed['issuer'], listed['key_type']) == ('cup-xmpp', 'Test Intermediate', 'RSA 3072')
    assert client.get(f'{PAGE}?kind=csr').json()['count'] == 0, 'the request has become the certificate'
    in_force()
    assert ('RST-R30', 'xcp_router', data.NODE) in notices(client)
    command('restart', 'xcp_connection_manager')
    engine.wait_ready()
    assert shown(engine.tls_port) == before, 'only the service of the rule takes the new one'
    assert ('RST-R30', 'xcp_router', data.NODE) in notices(client)
    command('restart', 'xcp_router')
    engine.wait_ready()
    assert shown(engine.tls_port) == leaf
    assert not {one for one in notices(client) if one[0] == 'RST-R30'}
    assert verified(engine.tls_port, root.certificate, data.DOMAIN), 'the intermediate certificate is sent too'
    assert not verified(engine.tls_port, other.certificate, data.DOMAIN)
    bound = RawClient(engine.port).starttls()
    assert b'<success' in bound.scram('SCRAM-SHA-256-PLUS', 'alice', data.PASSWORD)
    trust = client.get(f'{PAGE}?name=cup-xmpp-trust&common_name=Test%20Root').json()['results'][0]
    answer = client.delete(f'{PAGE}{trust["id"]}/')
    assert answer.status_code == 204, 'the intermediate one is trusted itself'
    trust = client.get(f'{PAGE}?name=cup-xmpp-trust&common_name=Test%20Intermediate').json()['results'][0]
    answer = client.delete(f'{PAGE}{trust["id"]}/')
    assert answer.status_code == 409
    assert 'cup-xmpp imp1 is signed by it' in answer.json()['detail']


@proves('CERT-04', 'CERT-39')
def test_rsa_and_ecdsa_are_shown_side_by_side(client: Any, engine: Engine, make_user: Any) -> None:
    """TLS 1.2 negotiation picks one; channel binding holds for both."""
    ensure(make_user, 'alice')
    own = client.get(f'{PAGE}?kind=identity&name=cup-xmpp-ECDSA').json()['results'][0]
    assert own['origin'] == 'node'
    assert client.delete(f'{PAGE}{own["id"]}/').status_code == 409
    ask(client, 'generate', 'cup-xmpp')
    ask(client, 'generate', 'cup-xmpp-ECDSA', key_length='384', algorithm='SHA384', days=100)
    in_force()
    command('restart', 'xcp_router')
    engine.wait_ready()
    found = {kind: shown(engine.tls_port, f'ECDHE-{kind}-AES256-GCM-SHA384') for kind in ('RSA', 'ECDSA')}
    assert isinstance(found['RSA'].public_key(), rsa.RSAPublicKey)
    assert isinstance(found['ECDSA'].public_key(), ec.EllipticCurvePublicKey)
    assert isinstance(found['ECDSA'].signature_hash_algorithm, hashes.SHA384)
    for one in found.values():
        assert verified(engine.tls_port, one, data.DOMAIN) is (one == found['ECDSA']), 'preferred by TLS 1.3'
        assert one.issuer == one.subject
    for ciphers in ('ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-AES256-GCM-SHA384'):
        bound = RawClient(engine.port)
        bound.send(STREAM).read_until(b'</stream:features>')
        bound.send(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").read_until(b'<proceed')
        context = trusting()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        bound.socket = context.wrap_socket(bound.socket, server_hostname=data.DOMAIN)
        bound.send(STREAM).read_until(b'</stream:features>')
        bound_hash = x509.load_der_x509_certificate(bound.socket.getpeercert(True) or b'')  # type: ignore[attr-defined]
        digest = bound_hash.fingerprint(bound_hash.signature_hash_algorithm or hashes.SHA256())
        assert b'<success' in bound.scram('SCRAM-SHA-256-PLUS', 'alice', data.PASSWORD, digest)
    rows = [one for one in client.get(f'{PAGE}?kind=identity').json()['results'] if one['name'] != 'node-link']
    assert {one['origin'] for one in rows} == {'generated'}, 'that of the node is shown no longer'
    for one in rows:
        assert client.delete(f'{PAGE}{one["id"]}/').status_code == 204
    in_force()
    command('restart', 'xcp_router')
    engine.wait_ready()
    assert shown(engine.tls_port).fingerprint(hashes.SHA256()).hex() == own['fingerprint'], 'back to that of the node'


@proves('DOM-23', 'CERT-31', 'CERT-32', 'CERT-33', 'CERT-34', 'CERT-44', 'RST-R31')
def test_a_domain_is_added(client: Any, federation: Federation, engine: Engine, make_user: Any) -> None:
    """The page and a notification name what lacks the domain; one command makes it right; servers see it, clients are
    not touched."""
    (federation.tls / 'cup-xmpp-s2s' / 'own.pem').unlink()
    federation.wait_ready()
    command('restart', 'xcp_xmpp_federation_connection_manager')
    federation.wait_ready()
    made = ask(client, 'generate', 'cup-xmpp-s2s')
    in_force()
    assert {one[:2] for one in notices(client)} == {
        ('RST-R31', 'xcp_router'), ('RST-R32', 'xcp_xmpp_federation_connection_manager')
    }  # fmt: skip
    command('restart', 'xcp_router')
    federation.wait_ready()
    assert not notices(client)
    first = server(federation)
    assert names(first) == {data.DOMAIN, data.NODE, '127.0.0.1'}
    assert not advice(client)

    assert client.post('/api/v1/domains/', {'name': 'Second.example.com'}).status_code == 201
    client.patch('/api/v1/security-settings/', {'wildcards': True})
    lacks = '*.example.com, *.second.example.com, second.example.com'
    assert advice(client) == [f'The certificate cup-xmpp-s2s does not name {lacks}. Generate a new one.']
    assert 'Lacks 3 domains' in admin_page()
    assert f'It does not name {lacks}.' in admin_page(f'{made["id"]}/')
    assert server(federation) == first, 'nothing changes by itself'
    xmpp = RawClient(engine.port).starttls()
    assert client.post(f'{PAGE}{made["id"]}/regenerate/', {}).status_code == 200
    in_force()
    assert not advice(client)
    command('restart', 'xcp_xmpp_federation_connection_manager')
    federation.wait_ready()
    second = server(federation)
    assert names(second) == {*lacks.split(', '), data.DOMAIN, data.NODE, '127.0.0.1'}
    assert second.public_key() != first.public_key()
    assert {one[:2] for one in notices(client) if one[0] != 'RST-R50'} == {('RST-R31', 'xcp_router')}
    assert shown(engine.tls_port) != second, 'clients see cup-xmpp'
    xmpp.send(b' ').socket.settimeout(0.2)
    with pytest.raises(TimeoutError):  # the stream is still open
        xmpp.socket.recv(1)


def server(federation: Federation) -> x509.Certificate:
    """What the server-to-server port shows."""
    found = Server(federation.port).greet()
    found.features()
    return x509.load_der_x509_certificate(found.secure().socket.getpeercert(True) or b'')  # type: ignore[attr-defined]


def names(found: x509.Certificate) -> set[str]:
    """DNS names and addresses."""
    from engine.contract.certificates import alternative_names, host_names

    return set(host_names(alternative_names(found)))


def admin_page(path: str = '') -> str:
    """The list, or a page below it, as a browser gets it."""
    from django.test import Client

    browser = Client()
    browser.force_login(data.make_administrator('administrator'))
    return browser.get(f'/os/osadmin/certificates/{path}').content.decode()


@pytest.mark.parametrize('name', ['cup', 'cup-ECDSA', 'cup-xmpp', 'cup-xmpp-s2s-ECDSA', 'tomcat'])
def test_requests_have_the_usages_of_table_17(client: Any, key_known: None, name: str) -> None:
    found = x509.load_pem_x509_csr(ask(client, 'csr', name, organization='Example', country='JP')['csr'].encode())
    extended = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    tomcat = name == 'tomcat'
    ipsec = [] if tomcat else ['1.3.6.1.5.5.7.3.5']
    assert [one.dotted_string for one in extended] == ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2', *ipsec]
    assert (usage.digital_signature, usage.key_encipherment, usage.data_encipherment) == (True, True, True)
    assert (usage.key_agreement, usage.key_cert_sign, usage.crl_sign) == (not tomcat, False, False)
    assert isinstance(found.public_key(), ec.EllipticCurvePublicKey) is name.endswith('-ECDSA')
    assert found.subject.rfc4514_string() == f'C=JP,O=Example,CN={data.NODE}'
    hosted = {data.DOMAIN} if not name.startswith('cup-E') and name != 'cup' else set()
    assert names(found) == {data.NODE, '127.0.0.1', *hosted}  # type: ignore[arg-type]


def test_what_is_no_good_is_refused_with_the_reason(client: Any, key_known: None) -> None:
    from impadmin.osadmin.models import Certificate, CertificateKey

    root = Signer('Test Root')
    assert upload(client, 'cup-xmpp-trust', root.certificate).status_code == 200
    csr = ask(client, 'csr')['csr'].encode()
    good = root.sign(csr)
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    other = Signer('Nobody asked for this').certificate
    for content, text in (
        (b'no certificate', 'The file is no certificate.'),
        (b'', 'empty'),
        (b'-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', 'The file is no certificate.'),
        (private + pem(good), 'The file has a private key.'),
        (b'x' * 70_000, 'larger than 64 KiB'),
        (pem(*[good] * 21), '21 certificates, at most 20'),
        (pem(root.sign(csr, days=-1)), 'imp1 expired on'),
        (pem(root.sign(csr, names=['example.org'])), 'lacks names of the request: example.com, imp1.'),
        (pem(Signer('Stranger').sign(csr)), 'The CA certificate Stranger is not available'),
        (pem(other), 'needs an RSA key; the certificate has an EC key'),
    ):
        assert text in refused(upload(client, 'cup-xmpp', content)), text
    assert 'The key of the certificate is not that of a request' in refused(upload(client, 'cup-xmpp-ECDSA', other))
    assert 'expired on' in refused(upload(client, 'tomcat-trust', Signer('Old', days=-1).certificate))
    for values, field, text in (
        ({'purpose': 'ipsec'}, 'purpose', 'ipsec'),
        ({'distribution': 'imp9'}, 'distribution', 'imp9'),
        ({'purpose': 'cup', 'distribution': 'Multi-Server(SAN)'}, 'distribution', 'for single nodes only'),
        ({'key_length': '256'}, 'key_length', '2048, 3072, 4096'),
        ({'key_length': '1024'}, 'key_length', '1024'),
        ({'algorithm': 'SHA1'}, 'algorithm', 'SHA1'),
        ({'names': 'a b'}, 'names', 'a b is no DNS name'),
    ):
        answer = client.post(f'{PAGE}csr/', {'purpose': 'cup-xmpp', 'distribution': data.NODE, **values})
        assert text in refused(answer, field), values
    assert Certificate.objects.filter(kind='identity').count() == 0, 'nothing of this was taken'
    before = CertificateKey.objects.get().sealed
    assert 'PRIVATE' not in before
    assert ask(client, 'csr')['csr'].encode() != csr
    assert CertificateKey.objects.get().sealed != before, 'the second request replaces the first'
    assert 'is not that of a request' in refused(upload(client, 'cup-xmpp', good))


@proves('RST-R32')
def test_uploads_name_the_services_that_use_them(client: Any, key_known: None, running: Any) -> None:
    running()
    root = Signer('Test Root')
    for store in ('cup-trust', 'tomcat-trust'):
        assert upload(client, store, root.certificate).status_code == 200
    assert notices(client) == {('RST-R32', 'sip_proxy', data.NODE)}
    leaf = root.sign(ask(client, 'csr', 'tomcat')['csr'].encode())
    assert upload(client, 'tomcat', leaf).status_code == 200
    assert notices(client) == {('RST-R32', 'sip_proxy', data.NODE), ('RST-R32', 'uds_tomcat', data.NODE)}
    found = client.get('/api/v1/notifications/').json()['results']
    shown = [change for one in found for change in one['changes']]
    assert {one['field']: (one['in_force'], one['saved'][:13]) for one in shown} == {
        'cup-trust': ('0 certificates', '1 certificate'), 'tomcat': ('of the node itself', leaf_text(leaf)),
    }  # fmt: skip


def leaf_text(leaf: x509.Certificate) -> str:
    """The beginning of a fingerprint as notifications show it."""
    return leaf.fingerprint(hashes.SHA256()).hex(':')[:13]


def test_a_node_that_never_ran_gets_no_key(client: Any) -> None:
    answer = client.post(f'{PAGE}generate/', {'purpose': 'cup-xmpp', 'distribution': data.NODE})
    assert answer.status_code == 409
    assert 'start the engine there once' in answer.json()['detail']


@proves('CERT-19', 'CERT-36')
def test_downloads(client: Any, key_known: None, admin_client: Callable[..., Any]) -> None:
    from impadmin.console.models import AuditEntry

    made = ask(client, 'generate', 'cup')
    browser = admin_client('administrator')
    url = f'/os/osadmin/certificates/{made["id"]}/'
    text = browser.get(url).content.decode()
    assert 'Download .PEM File' in text
    answer = browser.get(f'{url}file/pem/')
    assert 'filename="cup.pem"' in answer['Content-Disposition']
    found = x509.load_pem_x509_certificate(answer.content)
    assert x509.load_der_x509_certificate(browser.get(f'{url}file/der/').content) == found
    csr = ask(client, 'csr', 'cup', names='SIP.example.com\n\n192.0.2.1')
    entry = AuditEntry.objects.filter(action='csr').latest('at')
    assert entry.after['names'] == ['sip.example.com', '192.0.2.1']
    answer = browser.get(f'/os/osadmin/certificates/{csr["id"]}/file/pem/')
    assert 'filename="cup.csr"' in answer['Content-Disposition']
    assert x509.load_pem_x509_csr(answer.content).is_signature_valid
    assert names(x509.load_pem_x509_csr(answer.content)) == {'sip.example.com', '192.0.2.1'}  # type: ignore[arg-type]
    assert x509.load_der_x509_csr(browser.get(f'/os/osadmin/certificates/{csr["id"]}/file/der/').content)


def test_the_command_line(imp: Any, key_known: None, client: Any, tmp_path: Any) -> None:
    """The guide's own words: request, import of authority and signed certificate, list, anew, delete."""
    assert 'Nothing changes until then' in imp('set', 'csr', 'gen', 'cup-xmpp').stdout
    csr = imp('show', 'csr', 'own', 'cup-xmpp').stdout
    root = Signer('Test Root')
    (tmp_path / 'root.pem').write_bytes(pem(root.certificate))
    (tmp_path / 'own.pem').write_bytes(pem(root.sign(csr.encode())))
    refused = imp('set', 'cert', 'import', 'own', 'cup-xmpp', str(tmp_path / 'own.pem'))
    assert (refused.returncode, 'is not available in the trust store' in refused.stderr) == (1, True)
    assert imp('set', 'cert', 'import', 'trust', 'cup-xmpp-trust', str(tmp_path / 'root.pem')).returncode == 0
    assert 'old one serves' in imp('set', 'cert', 'import', 'own', 'cup-xmpp', str(tmp_path / 'own.pem')).stdout
    assert 'Test Root' in imp('show', 'cert', 'list', 'trust').stdout
    assert 'BEGIN CERTIFICATE' in imp('show', 'cert', 'own', 'cup-xmpp', '--node', data.NODE).stdout
    assert imp('set', 'cert', 'regen', 'cup-xmpp').returncode == 3, 'it is signed by an authority'
    assert imp('set', 'cert', 'regen', 'cup-xmpp-s2s', '--dry-run').returncode == 0
    assert imp('set', 'cert', 'regen', 'cup-xmpp-s2s').returncode == 0
    first = imp('show', 'cert', 'own', 'cup-xmpp-s2s').stdout
    assert imp('set', 'cert', 'regen', 'cup-xmpp-s2s').returncode == 0
    assert imp('show', 'cert', 'own', 'cup-xmpp-s2s').stdout != first
    assert imp('set', 'cert', 'delete', 'cup-xmpp-trust', 'Test', 'Root').returncode == 3, 'it is needed'
    assert imp('set', 'cert', 'delete', 'cup-xmpp').returncode == 0
    assert imp('set', 'cert', 'delete', 'cup-xmpp-trust', 'Test', 'Root').returncode == 0
    assert imp('set', 'cert', 'regen', 'nothing').returncode == 2
    assert imp('set', 'cert', 'import', 'own', 'cup', '/no/such/file').returncode == 2


@proves('SEC-05', 'RST-R18')
def test_clients_without_tls(client: Any, engine: Engine, sign_in: Any) -> None:
    """Secure mode is on: nothing is offered before TLS. Switched off, it holds until the restart."""

    def features() -> bytes:
        return RawClient(engine.port).send(STREAM).read_until(b'</stream:features>')

    assert b'<required/>' in features()
    assert b'<mechanism>' not in features()
    assert client.patch('/api/v1/security-settings/', {'client_secure_mode': False}).status_code == 200
    in_force()
    assert {one[:2] for one in notices(client)} == {
        ('RST-R18', 'xcp_router'), ('RST-R18', 'xcp_connection_manager')
    }  # fmt: skip
    assert b'<mechanism>' not in features()
    command('restart', 'xcp_connection_manager')
    engine.wait_ready()
    assert b'<starttls' in (found := features())
    assert b'<required/>' not in found
    assert b'<mechanism>SCRAM-SHA-256</mechanism>' in found
    assert b'PLAIN' not in found, 'no password in clear'
    assert sign_in('alice', tls=False).jid


@proves('CERT-10')
def test_one_certificate_for_all_nodes(client: Any, make_engine: Callable[..., Engine]) -> None:
    """One request, one upload: every node shows the same certificate after its restart."""
    from impadmin.system.models import Node, ServiceActivation

    node = Node.objects.create(name='imp2.example.com', address='127.0.0.1')
    for service in ('presence_engine', 'xcp_authentication', 'xcp_connection_manager'):
        ServiceActivation.objects.create(node=node, service=service)
    data.publish_configuration()
    engines = [make_engine(data.NODE), make_engine('imp2.example.com')]
    root = Signer('Test Root')
    upload(client, 'cup-xmpp-trust', root.certificate)
    csr = ask(client, 'csr', 'cup-xmpp', 'Multi-Server(SAN)')
    found = x509.load_pem_x509_csr(csr['csr'].encode())
    assert found.subject.rfc4514_string() == 'CN=imp1-ms'
    assert names(found) == {data.DOMAIN, data.NODE, 'imp2.example.com', '127.0.0.1'}  # type: ignore[arg-type]
    leaf = root.sign(csr['csr'].encode())
    assert upload(client, 'cup-xmpp', leaf).status_code == 200
    for engine in engines:
        engine.restart()
        assert shown(engine.tls_port) == leaf


def test_a_key_the_node_cannot_read(client: Any, engine: Engine, make_user: Any) -> None:
    """The node came back on another machine: it says so and shows a certificate of its own; one made anew is read."""
    from impadmin.system.models import Alarm

    ask(client, 'generate', 'cup-xmpp')
    shutil.rmtree(settings.VAR_DIR / 'tls' / data.NODE)
    engine.restart()
    assert isinstance(shown(engine.tls_port).public_key(), ec.EllipticCurvePublicKey)
    wait_until(lambda: Alarm.objects.filter(name='CertificateKeyMissing: cup-xmpp', cleared_at=None).exists(), 'alarm')
    ask(client, 'generate', 'cup-xmpp')
    in_force()
    command('restart', 'xcp_router')
    engine.wait_ready()
    assert isinstance(shown(engine.tls_port).public_key(), rsa.RSAPublicKey)
    wait_until(lambda: not Alarm.objects.filter(name__contains='KeyMissing', cleared_at=None).exists(), 'no alarm')


def test_trust_stores_of_files_are_taken_over(client: Any, make_engine: Callable[..., Engine]) -> None:
    folder = settings.VAR_DIR / 'tls' / data.NODE / 'cup-xmpp-trust'
    folder.mkdir(parents=True)
    (folder / 'ca.pem').write_bytes(pem(Signer('Of a file').certificate))
    make_engine()
    found = client.get(f'{PAGE}?name=cup-xmpp-trust').json()['results']
    assert [(one['common_name'], one['origin']) for one in found] == [('Of a file', 'imported')]
    assert not folder.exists()
