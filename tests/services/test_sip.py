"""Cisco SIP Proxy: instant messages and availability between SIP clients and XMPP clients, and who may speak."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.areas.test_troubleshooter import alive, outcomes
from tests.areas.xmpp_fixtures import address, command, configure, ensure, in_force, sign_in
from tests.fixtures import data
from tests.fixtures.federation import Zone
from tests.fixtures.processes import free_port, wait_until
from tests.fixtures.tls import trusting
from tests.proves import proves
from tests.services.sipclient import SipClient, SipMessage
from tests.services.test_client_certificates import Authority

__all__ = ['outcomes', 'sign_in']

SERVICE = 'sip_proxy'
ALICE, BOB, CAROL = (address(name) for name in ('alice', 'bob', 'carol'))
TRUNK = '127.0.0.2'
"""An address the Incoming ACL does not have."""
SCENARIOS = Path(__file__).parent.parent / 'sip' / 'scenarios'
PIDF = 'application/pidf+xml'
PORTS = {'UDP': 'port', 'TCP': 'port', 'TLS': 'tls_port', 'MUTUAL': 'mutual_tls_port'}


class Sip:
    """The service, not yet running: settings made before ``start`` are in force."""

    def __init__(self, request: pytest.FixtureRequest, authority: Authority) -> None:
        from impadmin.system.models import IncomingAcl, Node, ServiceActivation

        self.request, self.authority = request, authority
        self.clients: list[SipClient] = []
        self.node = Node.objects.get(name=data.NODE)
        ServiceActivation.objects.create(node=self.node, service=SERVICE)
        self.ports = {name: free_port() for name in ('port', 'tls_port', 'mutual_tls_port')}
        for name, port in self.ports.items():
            self.set(name, port, self.node)
        IncomingAcl.objects.create(description='here', address_pattern='127.0.0.1')
        data.trust('cup-trust', authority.pem)

    def set(self, name: str, value: Any, node: Any = None) -> None:
        """A parameter of the service, saved."""
        from impadmin.system.models import ParameterValue

        ParameterValue.objects.create(service=SERVICE, name=name, node=node, value=value)

    def start(self) -> Sip:
        """Start the engine."""
        data.publish_configuration()
        self.request.getfixturevalue('engine')
        wait_until(self.listens, 'SIP Proxy listens')
        return self

    def listens(self) -> bool:
        """Whether connections are accepted."""
        with contextlib.suppress(OSError):
            socket.create_connection(('127.0.0.1', self.ports['port']), 1).close()
            return True
        return False

    def __call__(self, user: str, transport: str = 'TCP', bind: str = '', certificate: str = '') -> SipClient:
        """A client that is not registered. ``certificate``: connect with one for this address."""
        port = self.ports[PORTS['MUTUAL' if certificate else transport]]
        context = None
        if transport == 'TLS':
            context = trusting(self.authority.issue(certificate) if certificate else None)
        client = SipClient(user, port, transport, context, bind)
        self.clients.append(client)
        return client


@pytest.fixture
def sip(make_user: Callable[..., Any], request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sip]:
    """Users alice, bob and carol, and the service."""
    ensure(make_user, 'alice', 'bob', 'carol')
    found = Sip(request, Authority(tmp_path, 'SIP Authority'))
    yield found
    for client in found.clients:
        client.close()


def registered(client: SipClient) -> SipClient:
    answer = client.register()
    assert answer.status == 200, answer
    assert 'expires=' in answer['Contact']
    return client


def test_messages_go_both_ways(sip: Sip, sign_in: Any) -> None:
    """A SIP client and an XMPP client, over every transport; texts of any language arrive as they were written."""
    sip.set('udp_trusted', True)
    sip.start()
    bob = sign_in('bob')
    for way in PORTS:
        if way == 'MUTUAL':
            alice = registered(sip(ALICE, 'TLS', TRUNK, certificate='Alice@EXAMPLE.com'))
        else:
            alice = registered(sip(ALICE, way))
        text = f'hi <&> 東京 "quoted"\nand a second line over {way}'
        assert alice.say(BOB, text, Subject='Greeting').status == 200
        got = bob.expect('message', body=text)
        assert got.get('type') == 'chat'
        assert got.get('from', '').partition('/')[0] == ALICE
        assert got.findtext('{jabber:client}subject') == 'Greeting'
        bob.say(got.get('from'), 'back <&> 大阪')
        bob.say(ALICE, 'and once more')
        first, second = alice.expect('MESSAGE'), alice.expect('MESSAGE')
        assert (first.text, second.text) == ('back <&> 大阪', 'and once more')
        assert f'<sip:{BOB}>' in first['From']
        assert f'<sip:{ALICE}>' in first['To']
        assert first['Content-Type'] == 'text/plain;charset=utf-8'
        assert alice.register(0)['Contact'] == ''


@proves('IM-14', 'RST-04')
def test_messages_between_sip_clients_need_three_services(sip: Sip) -> None:
    """They arrive while Cisco SIP Proxy, Presence Engine and XCP Router run, and not otherwise."""
    sip.start()
    alice, bob = registered(sip(ALICE)), registered(sip(BOB))

    def talk(text: str) -> None:
        alice.send(alice.compose('MESSAGE', f'sip:{BOB}', text))
        assert bob.expect('MESSAGE').text == text
        assert alice.receive().status == 200

    talk('one')
    command('stop', 'presence_engine')
    refused = alice.say(BOB, 'two')
    assert (refused.status, refused['Retry-After']) == (503, '30')
    command('start', 'presence_engine')
    talk('three')
    command('restart', 'presence_engine')
    talk('four')
    for service in (SERVICE, 'xcp_router'):
        command('stop', service)
        assert not sip.listens()
        command('start', service)
        wait_until(sip.listens, 'SIP Proxy listens')
        alice, bob = registered(sip(ALICE)), registered(sip(BOB))
        talk('again')
        command('restart', service)
        wait_until(sip.listens, 'SIP Proxy listens')
        alice, bob = registered(sip(ALICE)), registered(sip(BOB))
        talk('and again')


@proves('IM-15')
def test_messages_to_xmpp_clients_need_a_fourth(sip: Sip, sign_in: Any) -> None:
    """Without Cisco XCP Text Conference Manager SIP clients reach each other, and XMPP clients each other."""
    sip.start()
    alice, carol = registered(sip(ALICE)), registered(sip(CAROL))
    bob, dave = sign_in('bob'), sign_in('dave')
    assert alice.say(BOB, 'one').status == 200
    bob.expect('message', body='one')
    command('stop', 'text_conference_manager')
    refused = alice.say(BOB, 'two')
    assert (refused.status, refused['Retry-After']) == (503, '30')
    dave.say(BOB, 'three')
    bob.expect('message', body='three')
    alice.send(alice.compose('MESSAGE', f'sip:{CAROL}', 'four'))
    assert carol.expect('MESSAGE').text == 'four'
    assert alice.receive().status == 200
    command('start', 'text_conference_manager')
    assert alice.say(BOB, 'five').status == 200
    bob.expect('message', body='five')


def test_nothing_is_lost(sip: Sip, sign_in: Any) -> None:
    """For somebody who is not there a message is stored before it is answered; a client that does not take one gets it
    when it registers again; what a client refuses is told to the sender."""
    sip.start()
    alice = registered(sip(ALICE))
    assert alice.say(BOB, 'for later').status == 202
    bob = sign_in('bob')
    assert bob.expect('message', body='for later').find('{urn:xmpp:delay}delay') is not None
    bob.say(ALICE, 'too early')
    alice.expect('MESSAGE', 480)
    wait_until(lambda: alice.register(0).status == 200, 'signed out')
    registered(alice)
    assert alice.expect('MESSAGE').text == 'too early'
    bob.say(ALICE, 'lost on the way')
    alice.expect('MESSAGE', 0)
    alice.close()
    alice = registered(sip(ALICE))
    assert alice.expect('MESSAGE').text == 'lost on the way'
    bob.say(ALICE, 'not wanted')
    alice.expect('MESSAGE', 488)
    error = bob.expect('message', type='error')
    assert error.find('.//{urn:ietf:params:xml:ns:xmpp-stanzas}not-acceptable') is not None
    carol = registered(sip(CAROL))
    carol.send(carol.compose('MESSAGE', f'sip:{ALICE}', 'between two'))
    alice.expect('MESSAGE', 503)
    assert carol.receive().status in (200, 202)
    assert registered(alice).expect('MESSAGE').text == 'between two'


def test_a_client_that_comes_over_another_connection(sip: Sip, sign_in: Any, api: Any) -> None:
    """What it had not answered is sent again there, and the end of the former connection signs nobody out. When the
    server lets go of it, its connection ends, so that it asks again."""
    sip.start()
    bob = sign_in('bob')
    former, contact = registered(sip(ALICE)), {'Contact': f'<sip:{ALICE}:5070>'}
    former.register(**contact)
    former.register(0)
    bob.say(ALICE, 'in between')
    former.expect('MESSAGE', 0)
    alice = sip(ALICE)
    assert alice.register(**contact).status == 200
    assert alice.expect('MESSAGE').text == 'in between'
    former.close()
    bob.say(ALICE, 'afterwards')
    assert alice.expect('MESSAGE').text == 'afterwards'
    from impadmin.ucm.models import EndUser

    key = EndUser.objects.get(user_id='alice').pk
    assert (
        api('administrator').patch(f'/api/v1/end-users/{key}/', {'im_enabled': False}, format='json').status_code == 200
    )
    with pytest.raises(ConnectionError):
        alice.receive()


def test_strangers_cannot_make_it_send_much(sip: Sip) -> None:
    """The address in a datagram may be forged: what is refused gets no answer that is much longer."""
    sip.start()
    stranger = sip(ALICE, 'UDP')
    stranger.send(b'X sip:a SIP/2.0\r\nv:SIP/2.0/UDP a;rport\r\n\r\n')
    asked = stranger.compose('OPTIONS', f'sip:{BOB}')
    stranger.send(asked)
    answer = stranger.receive()
    assert (answer.status, answer['CSeq']) == (403, '1 OPTIONS'), 'the first one got none'


def test_who_may_speak_for_whom(sip: Sip, sign_in: Any) -> None:
    """Without certificate and not in the Incoming ACL: nobody. With a certificate: the user in it, and no other."""
    sip.start()
    bob = sign_in('bob')
    stranger = sip(ALICE, 'TCP', TRUNK)
    for method in ('REGISTER', 'MESSAGE', 'OPTIONS', 'SUBSCRIBE', 'PUBLISH', 'INVITE', 'NONSENSE'):
        assert stranger.request(method, f'sip:{BOB}', 'forged').status == 403
    assert sip(ALICE, 'UDP').say(BOB, 'forged').status == 403  # the address in a datagram proves nothing
    alice = sip(ALICE, 'TLS', TRUNK, certificate=ALICE)
    assert alice.say(BOB, 'mine', From=f'<sip:{CAROL}>;tag=1').status == 403
    assert alice.register(To=f'<sip:{CAROL}>').status == 403
    assert alice.say(BOB, 'mine').status == 200
    bob.expect('message', body='mine')
    assert sip(ALICE, 'TLS', TRUNK).request('OPTIONS', 'sip:example.com').status == 403
    bare = SipClient(ALICE, sip.ports['mutual_tls_port'], 'TLS', trusting())
    with pytest.raises(OSError):  # noqa: PT011 - in TLS 1.3 it may be seen when something is read or written
        bare.request('OPTIONS', 'sip:example.com')
    trusted = sip(ALICE)
    assert trusted.say(BOB, 'x', From='<sip:eve@elsewhere.example>;tag=1').status == 403
    assert trusted.say(BOB, 'x', From='<sip:nobody@example.com>;tag=1').status == 403
    assert trusted.say('nobody@example.com', 'x').status == 404
    assert trusted.say('somebody@elsewhere.example', 'x').status == 404
    assert trusted.say('bob@127.0.0.1', 'by user ID').status == 200  # the node's own name
    got = bob.expect('message')  # nothing of the others came
    assert got.findtext('{jabber:client}body') == 'by user ID'
    assert got.get('from', '').startswith(f'{ALICE}/')


def words(found: SipMessage) -> tuple[str, str]:
    """Subscription-State without its parameters' numbers, and the basic statuses."""
    state = found['Subscription-State'].partition(';expires')[0]
    return state, ','.join(part.partition('<')[0] for part in found.text.split('<basic>')[1:])


def subscribe(client: SipClient, to: str, seconds: int = 3600, **headers: str) -> SipMessage:
    host = f'<sip:{client.user}@{client.host}>'
    return client.request('SUBSCRIBE', f'sip:{to}', Event='presence', Expires=str(seconds), Contact=host, **headers)


def publish(client: SipClient, show: str, basic: str = 'open', **headers: str) -> SipMessage:
    body = (
        "<?xml version='1.0'?><presence xmlns='urn:ietf:params:xml:ns:pidf' xmlns:dm='urn:ietf:params:xml:ns:pidf:data-"
        "model' xmlns:rpid='urn:ietf:params:xml:ns:pidf:rpid' entity='pres:x@y'><tuple id='a'><status><basic>"
        f"{basic}</basic></status></tuple><dm:person id='p'><rpid:activities><rpid:{show}/></rpid:activities>"
        '</dm:person></presence>'
    )
    return client.request('PUBLISH', f'sip:{client.address}', body, Event='presence', Content_Type=PIDF, **headers)


def test_availability_goes_both_ways(sip: Sip, sign_in: Any) -> None:
    """SUBSCRIBE shows XMPP users as far as XMPP clients would be shown them; PUBLISH is seen by XMPP clients."""
    sip.start()
    bob = sign_in('bob')
    alice = registered(sip(ALICE))
    begun = subscribe(alice, BOB)
    assert begun.status == 200
    assert words(alice.expect('NOTIFY')) == ('active', 'open')
    bob.available(show='dnd', status='in a <meeting>')
    seen = alice.expect('NOTIFY')
    assert 'rpid:busy' in seen.text
    assert 'in a &lt;meeting&gt;' in seen.text
    bob.presence('unavailable')
    assert words(alice.expect('NOTIFY')) == ('active', 'closed')
    over = subscribe(alice, BOB, 0, To=begun['To'])
    assert (over.status, over['Expires']) == (200, '0')
    assert words(alice.expect('NOTIFY'))[0] == 'terminated;reason=timeout'
    assert subscribe(alice, BOB, To=begun['To']).status == 481
    bob.available()
    bob.presence('subscribe', ALICE)
    bob.expect('presence', from_=ALICE, type='subscribed')
    bob.forget()
    first = publish(alice, 'away')
    assert first.status == 200
    assert bob.expect('presence', show='away') is not None
    etag = first['SIP-ETag']
    assert publish(alice, 'busy', SIP_If_Match='other').status == 412
    assert publish(alice, 'on-the-phone', SIP_If_Match=etag).status == 200
    assert bob.expect('presence', show='dnd').findtext('{jabber:client}status') == 'On the phone'
    alice.close()
    bob.expect('presence', type='unavailable')


def test_availability_needs_the_approval_that_xmpp_needs(sip: Sip, sign_in: Any) -> None:
    """Where users are asked, a SIP subscription is pending until they answer; without sharing it is refused."""
    configure(presence={'auto_approve': False})
    sip.start()
    bob = sign_in('bob')
    alice, carol = registered(sip(ALICE)), registered(sip(CAROL))
    assert subscribe(alice, BOB).status == 200
    assert words(alice.expect('NOTIFY')) == ('pending', '')
    bob.expect('presence', from_=ALICE, type='subscribe')
    bob.presence('subscribed', ALICE)
    wait_until(lambda: words(alice.expect('NOTIFY')) == ('active', 'open'), 'approved')
    assert subscribe(carol, BOB).status == 200
    assert words(carol.expect('NOTIFY')) == ('pending', '')
    bob.expect('presence', from_=CAROL, type='subscribe')
    bob.presence('unsubscribed', CAROL)
    assert words(carol.expect('NOTIFY'))[0] == 'terminated;reason=rejected'


BAD = [
    (405, {'method': 'INVITE'}),
    (501, {'method': 'NONSENSE'}),
    (481, {'method': 'CANCEL'}),
    (400, {'CSeq': '1 OPTIONS'}),
    (400, {'CSeq': 'many MESSAGE'}),
    (400, {'From': f'<sip:{ALICE}>'}),
    (400, {'From': 'no address;tag=1'}),
    (400, {'Call_ID': ''}),
    (400, {'Max_Forwards': 'x'}),
    (483, {'Max_Forwards': '0'}),
    (416, {'uri': 'tel:+1234'}),
    (420, {'Require': 'teleport'}),
    (415, {'Content_Type': 'text/html'}),
    (415, {'Content_Encoding': 'gzip'}),
    (400, {'body': '', 'Content_Type': 'text/plain'}),
    (415, {'body': ''}),
    (489, {'method': 'SUBSCRIBE', 'Event': 'dialog'}),
    (406, {'method': 'SUBSCRIBE', 'Event': 'presence', 'Accept': 'text/html'}),
    (423, {'method': 'SUBSCRIBE', 'Event': 'presence', 'Expires': '5'}),
    (423, {'method': 'REGISTER', 'Expires': '5', 'To': f'<sip:{ALICE}>', 'Contact': '<sip:a@b>'}),
    (400, {'method': 'REGISTER', 'Expires': '5', 'To': f'<sip:{ALICE}>', 'Contact': '*'}),
    (404, {'method': 'REGISTER', 'uri': 'sip:elsewhere.example', 'To': f'<sip:{ALICE}>'}),
    (400, {'method': 'PUBLISH', 'uri': f'sip:{ALICE}', 'Event': 'presence', 'Content_Type': PIDF, 'body': '<x'}),
    (400, {'method': 'PUBLISH', 'uri': f'sip:{ALICE}', 'Event': 'presence', 'Content_Type': PIDF,
           'body': "<!DOCTYPE x [<!ENTITY e 'x'>]><x>&e;</x>"}),
]  # fmt: skip


def test_what_cannot_be_done_is_said(sip: Sip) -> None:
    """Every wrong request has its status, and the connection goes on; what is no SIP ends it."""
    sip.start()
    alice = sip(ALICE)
    for status, wrong in BAD:
        wanted: dict[str, str] = {'method': 'MESSAGE', 'uri': f'sip:{BOB}', 'body': 'x'} | wrong  # type: ignore[dict-item]
        assert (alice.request(**wanted).status, wrong) == (status, wrong)
    fine = alice.request('OPTIONS', 'sip:example.com')
    assert (fine.status, 'MESSAGE' in fine['Allow'], fine['Allow-Events']) == (200, True, 'presence')
    alice.send(b'\r\n\r\n')
    assert alice.socket.recv(10) == b'\r\n'
    for raw in (b'GET / HTTP/1.1\r\n\r\n', b'A' * 20_000, b'OPTIONS sip:a SIP/2.0\r\nl: 99999999\r\n\r\n',
                b'OPTIONS sip:a SIP/2.0\r\n' + b'x: y\r\n' * 200 + b'\r\n'):  # fmt: skip
        client = sip(ALICE)
        with contextlib.suppress(OSError):
            client.send(raw)
        with pytest.raises((ConnectionError, OSError)):
            client.receive()


def test_a_repeated_request_is_done_once(sip: Sip, sign_in: Any) -> None:
    """Over UDP the same request again gets the same answer; and what a client does not answer comes again."""
    sip.set('udp_trusted', True)
    sip.start()
    bob = sign_in('bob')
    alice = registered(sip(ALICE, 'UDP'))
    raw = alice.compose('MESSAGE', f'sip:{BOB}', 'once')
    answers = []
    for _ in range(3):
        alice.send(raw)
        answers.append(alice.receive())
    assert len({str(one) for one in answers}) == 1
    assert alice.say(BOB, 'twice').status == 200
    bob.expect('message', body='once')
    assert bob.expect('message').findtext('{jabber:client}body') == 'twice'
    bob.say(ALICE, 'hello?')
    first = alice.expect('MESSAGE', 0)
    again = alice.expect('MESSAGE')
    assert (first['Via'], first.text) == (again['Via'], again.text)
    bob.say(ALICE, 'x' * 2000)
    assert (
        bob.expect('message', type='error').find('.//{urn:ietf:params:xml:ns:xmpp-stanzas}policy-violation') is not None
    )


@proves('DOM-26')
def test_every_domain_is_served(sip: Sip, sign_in: Any, make_user: Callable[..., Any]) -> None:
    """Users of each listed IM address domain register and are reached by their addresses."""
    from impadmin.presence.models import AdvancedSettings, Domain

    AdvancedSettings.objects.filter(pk=1).update(address_scheme='directory_uri')
    Domain.objects.create(name='Second.Example', key='second.example')
    for name, domain in (('dora', 'example.com'), ('emil', 'second.example')):
        make_user(name, directory_uri=f'{name}@{domain}')
    sip.start()
    dora, emil = registered(sip('dora@example.com')), registered(sip('emil@second.example'))
    dora.send(dora.compose('MESSAGE', 'sip:emil@second.example', 'across'))
    found = emil.expect('MESSAGE')
    assert (found.text, '<sip:dora@example.com>' in found['From']) == ('across', True)
    assert dora.receive().status == 200
    assert dora.say('emil@third.example', 'x').status == 404
    assert emil.register(To='<sip:emil@third.example>').status == 403


@proves('DOM-18', 'CI-11')
def test_the_domain_of_unified_cm(sip: Sip, sign_in: Any, api: Callable[..., Any]) -> None:
    """In addresses with the CUCM Domain or the SRV Cluster Name the user is a user ID, after the notified restart."""
    sip.node.address = 'imp1.hq.example.org'
    sip.node.save()
    sip.start()
    bob = sign_in('bob')
    trunk = sip(ALICE)
    client = api('administrator')
    assert trunk.say('bob@hq.example.org', 'by default').status == 200  # the DNS domain of the publisher
    bob.expect('message', body='by default')
    names = {
        'cucm_domain': 'cm.example.net', 'srv_cluster_name': 'imp-srv.other.example', 'server_name': 'im.third.example',
    }  # fmt: skip
    for name, domain in names.items():
        assert trunk.say(f'bob@{domain}', 'x').status == 404
        assert (
            client.patch(
                f'/api/v1/service-parameters/imp1/{SERVICE}/', {name: 'not a domain'}, format='json'
            ).status_code
            == 400
        )
        saved = client.patch(f'/api/v1/service-parameters/imp1/{SERVICE}/', {name: domain}, format='json')
        assert saved.status_code == 200, saved.content
        in_force()
        assert trunk.say(f'bob@{domain}', 'x').status == 404
        rows = [row for row in client.get('/api/v1/notifications/').json()['results'] if row['kind'] == 'restart']
        wanted = ('RST-R50' if name == 'srv_cluster_name' else 'RST-R45', SERVICE)
        assert [(row['rule'], row['service']) for row in rows] == [wanted]
        command('restart', SERVICE)
        wait_until(lambda: not [
            row for row in client.get('/api/v1/notifications/').json()['results'] if row['kind'] == 'restart'
        ], 'the notification clears')  # fmt: skip
        trunk = sip(f'alice@{domain}')
        assert name != 'cucm_domain' or trunk.say('bob@hq.example.org', 'x').status == 404
        assert trunk.say(f'BOB@{domain}', f'over {domain}').status == 200
        assert bob.expect('message', body=f'over {domain}').get('from', '').startswith(ALICE)


def test_the_incoming_acl_holds_after_a_restart(sip: Sip, api: Callable[..., Any]) -> None:
    """A new entry is notified for Cisco SIP Proxy; from its restart on the addresses are let in."""
    sip.start()
    client = api('administrator')
    assert sip(ALICE, bind=TRUNK).request('OPTIONS', 'sip:example.com').status == 403
    made = client.post(
        '/api/v1/incoming-acls/', {'description': 'Trunk', 'address_pattern': '127.0.0.2/31'}, format='json'
    )
    assert made.status_code == 201, made.content
    in_force()
    rows = client.get('/api/v1/notifications/').json()['results']
    assert [(row['rule'], row['service']) for row in rows if row['kind'] == 'restart'] == [('RST-R07', SERVICE)]
    assert sip(ALICE, bind=TRUNK).request('OPTIONS', 'sip:example.com').status == 403
    command('restart', SERVICE)
    assert sip(ALICE, bind=TRUNK).request('OPTIONS', 'sip:example.com').status == 200


def sipp(sip: Sip, scenario: str, user: str, port: int, transport: str, to: str = 'bob') -> subprocess.Popen[str]:
    """An unrelated SIP implementation plays a scenario once."""
    scene = SCENARIOS / f'{scenario}.xml'
    options = {'-sf': scene, '-m': 1, '-i': '127.0.0.1', '-p': port, '-t': transport, '-timeout': 30}
    command_line = ['sipp', f'127.0.0.1:{sip.ports["port"]}', '-timeout_error', '-nostdin', '-skip_rlimit']
    command_line += [str(part) for option in options.items() for part in option]
    command_line += ['-key', 'user', user, '-key', 'to', to]
    return subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def played(running: subprocess.Popen[str]) -> None:
    output, _ = running.communicate(timeout=40)
    assert running.returncode == 0, output[-3000:]


@proves('PL-09')
def test_an_unrelated_sip_client(sip: Sip, sign_in: Any) -> None:
    """SIPp registers, publishes and sends over TCP and UDP, and takes a message from an XMPP client."""
    sip.set('udp_trusted', True)
    sip.start()
    bob = sign_in('bob')
    bob.presence('subscribe', ALICE)
    bob.expect('presence', type='subscribed')
    for transport, name in (('t1', 'TCP'), ('u1', 'UDP')):
        port = free_port()
        client = sipp(sip, 'client', 'alice', port, transport)
        assert bob.expect('presence', status='at the desk').get('from', '').startswith(ALICE)
        text = bob.expect('message').findtext('{jabber:client}body') or ''
        assert text.startswith(f'from sipp over {name}, etag')
        played(client)
    receiver = sipp(sip, 'receiver', 'alice', port, 'u1')
    bob.say(ALICE, 'for sipp')
    played(receiver)


def test_host_names_in_the_incoming_acl(sip: Sip, request: pytest.FixtureRequest) -> None:
    """A host counts whose name leads to its address; a name that an address claims in DNS is not enough."""
    from impadmin.system.models import IncomingAcl

    zone = Zone()
    request.addfinalizer(zone.close)
    for name, text in (('trunk.example.net', '127.0.0.2'), ('sub.site.example.net', '127.0.0.3')):
        zone.records[name, 'A'] = [text]
    for last, name in ((3, 'sub.site.example.net.'), (4, 'liar.site.example.net.'), (5, 'elsewhere.example.')):
        zone.records[f'{last}.0.0.127.in-addr.arpa', 'PTR'] = [name]
    for name in ('trunk.example.net', 'site.example.net'):
        IncomingAcl.objects.create(description=name, address_pattern=name)
    sip.set('dns_servers', zone.address, sip.node)
    sip.start()
    found = {last: sip(ALICE, bind=f'127.0.0.{last}').request('OPTIONS', 'sip:example.com') for last in range(2, 7)}
    assert {last: answer.status for last, answer in found.items()} == {2: 200, 3: 200, 4: 403, 5: 403, 6: 403}


@proves('TRB-08')
def test_the_troubleshooter_knows_sip_proxy(outcomes: Callable[..., Any], db: None) -> None:
    """It names a stopped service, an empty Incoming ACL and a missing domain; where SIP Proxy is not used, nothing."""
    from impadmin.system.models import IncomingAcl, ParameterValue, ServiceActivation, ServiceStatus

    names = ('sip-proxy', 'sip-senders', 'cucm-domain')
    node = alive()
    assert {outcomes()[name]['outcome'] for name in names} == {'passed'}
    ServiceActivation.objects.create(node=node, service=SERVICE)
    ServiceStatus.objects.filter(node=node, service=SERVICE).update(state='Stopped')
    found = outcomes()
    assert [found[name]['outcome'] for name in names] == ['failed', 'warning', 'warning']
    assert found['sip-proxy']['problems'][0]['problem'] == 'Cisco SIP Proxy on imp1 is stopped.'
    assert found['sip-senders']['problems'][0]['fix'].startswith('/admin/system/incoming-acls/')
    ServiceStatus.objects.filter(node=node, service=SERVICE).update(state='Running')
    IncomingAcl.objects.create(description='Unified CM', address_pattern='192.0.2.1')
    ParameterValue.objects.create(service=SERVICE, name='cucm_domain', value='example.com')
    assert {outcomes()[name]['outcome'] for name in names} == {'passed'}


def test_a_user_of_another_node_is_sent_there(sip: Sip, make_user: Callable[..., Any]) -> None:
    """As XMPP clients are: the answer names the node and its port for this way."""
    from impadmin.system.models import Node

    sip.set('port', 5999, Node.objects.create(name='imp2', address='192.0.2.7'))
    make_user('zoe', node='imp2')
    sip.start()
    answer = sip(address('zoe')).register()
    assert (answer.status, answer['Contact']) == (302, '<sip:192.0.2.7:5999;transport=tcp>')
    assert registered(sip(ALICE)).say(address('zoe'), 'later').status in (202, 480)
