"""Federation with real servers of another make, Prosody and ejabberd, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.areas.xmpp_fixtures import address, command, in_force, sign_in
from tests.fixtures import data
from tests.fixtures.federation import PEER, PEER_USER, Authority, Ejabberd, Federation, Peer, Prosody, Zone
from tests.fixtures.processes import Engine, free_port, wait_until
from tests.proves import proves
from tests.xmppclient import STANZA_ERRORS, XmppClient

__all__ = ['sign_in']
SignIn = Callable[..., XmppClient]
ROMEO = f'{PEER_USER}@{PEER}'
ALICE = address('alice')


def condition(stanza: Any) -> str:
    """The error condition of a stanza."""
    found = [child.tag.removeprefix(STANZA_ERRORS) for child in stanza.iter() if child.tag.startswith(STANZA_ERRORS)]
    return next(name for name in found if name != 'text')


def refused(client: XmppClient, to: str, timeout: float = 40) -> str:
    """The error a message to ``to`` is answered with."""
    identity = client.say(to, 'is anybody there?')
    return condition(client.expect('message', type='error', id=identity, timeout=timeout))


def reaches(sender: XmppClient, receiver: XmppClient, body: str) -> None:
    """A message arrives, with its own sender."""
    sender.say(receiver.bare, body)
    receiver.expect('message', body=body, from_=sender.bare)


def arrives(sender: XmppClient, receiver: XmppClient) -> bool:
    """Whether a message gets there in half a second."""
    sender.say(receiver.bare, 'again')
    try:
        receiver.expect('message', body='again', timeout=0.5)
    except AssertionError:
        return False
    return True


@proves('FED-03', 'XMP-26', 'XMP-27', 'CERT-08')
@pytest.mark.parametrize(('kind', 'options'), [(Prosody, {'secure_auth': True, 'bidi': True}), (Ejabberd, {})])
def test_availability_messages_and_requests_with_certificates(
    federation: Federation, peer: Callable[..., Peer], sign_in: SignIn, engine: Engine,
    kind: type[Peer], options: dict[str, Any],
) -> None:  # fmt: skip
    """A certificate for the domain is enough on both sides (SASL EXTERNAL); with Prosody one connection serves both
    directions (XEP-0288)."""
    there = peer(kind, **options)
    alice = sign_in('alice')
    romeo = there.client()

    alice.presence('subscribe', to=ROMEO)
    romeo.expect('presence', type='subscribe', from_=ALICE)
    romeo.presence('subscribed', to=ALICE)
    alice.expect('presence', type='subscribed', from_=ROMEO)
    alice.expect('presence', type='', from_=romeo.jid)
    romeo.presence('subscribe', to=ALICE)
    alice.expect('presence', type='subscribe', from_=ROMEO) if not automatic() else None
    romeo.expect('presence', type='subscribed', from_=ALICE)
    romeo.expect('presence', type='', from_=alice.jid)
    alice.available(show='dnd', status='in a meeting')
    romeo.expect('presence', from_=alice.jid, show='dnd', status='in a meeting')

    reaches(alice, romeo, 'but soft, what light')
    reaches(romeo, alice, 'it is the east – “quoted” & <marked>')
    answer = alice.iq('get', "<query xmlns='jabber:iq:version'/>", to=PEER)
    assert answer.get('type') == 'result'
    assert romeo.iq('get', "<ping xmlns='urn:xmpp:ping'/>", to=data.DOMAIN).get('type') == 'result'
    assert refused(romeo, address('nobody')) == 'service-unavailable'
    # ejabberd and Prosody keep messages for users who do not exist to themselves, so ask for something else
    nobody = alice.iq('get', "<query xmlns='jabber:iq:version'/>", to=f'nobody@{PEER}/x')
    assert (nobody.get('type'), condition(nobody)) == ('error', 'service-unavailable')

    romeo.presence('unavailable')
    alice.expect('presence', type='unavailable', from_=romeo.jid)
    log = engine.log()
    assert 'mechanism=EXTERNAL' in log
    assert 'mechanism=dialback' not in log
    assert ('bidi=True' in log) == (kind is Prosody)


def automatic() -> bool:
    """Whether requests are approved without a question."""
    from impadmin.presence.models import PresenceSettings

    return PresenceSettings.objects.get(pk=1).auto_approve


@proves('XMP-28', 'FED-03')
@pytest.mark.parametrize(('kind', 'options'), [(Prosody, {'tls': False}), (Ejabberd, {'tls': 'false'})])
def test_dialback_alone(
    federation: Federation, peer: Callable[..., Peer], sign_in: SignIn, engine: Engine,
    kind: type[Peer], options: dict[str, Any],
) -> None:  # fmt: skip
    """Without TLS dialback proves the domains, in both directions, with the keys of either server."""
    there = peer(kind, **options)
    alice, romeo = sign_in('alice'), there.client()
    reaches(romeo, alice, 'they began')
    reaches(alice, romeo, 'we answer')
    log = engine.log()
    assert 'mechanism=dialback' in log
    assert 'mechanism=EXTERNAL' not in log
    assert 'tls=False' in log


@proves('XMP-27')
@pytest.mark.parametrize(
    ('kind', 'wrong'),
    [(Prosody, 'name'), (Prosody, 'expired'), (Prosody, 'authority'), (Ejabberd, 'name'), (Ejabberd, 'expired')],
)
def test_certificates_that_prove_nothing_are_refused(
    federation: Federation, peer: Callable[..., Peer], sign_in: SignIn, authority: Authority, kind: type[Peer],
    wrong: str,
) -> None:  # fmt: skip
    """With Require client-side security certificates, in both directions."""
    federation.settings(require_certificates=True)
    certificate = {
        'name': lambda: authority.issue('somebody.example.org'),
        'expired': lambda: authority.issue(PEER, expired=True),
        'authority': lambda: Authority(authority.folder / 'other').issue(PEER),
    }[wrong]()
    there = peer(kind, certificate=certificate)
    alice, romeo = sign_in('alice'), there.client()
    federation.wait_ready()
    assert refused(alice, ROMEO) == 'remote-server-timeout'
    assert refused(romeo, ALICE).startswith('remote-server-')


@proves('FED-03', 'RST-R23')
@pytest.mark.parametrize('kind', [Prosody, Ejabberd])
def test_policy_holds_after_the_router_has_restarted(
    federation: Federation, peer: Callable[..., Peer], sign_in: SignIn, api: Callable[..., Any], kind: type[Peer]
) -> None:
    """Presence > Inter-Domain Federation > XMPP Federation > Policy: saved values wait for Cisco XCP Router. The other
    server stops and starts again before that."""
    there = peer(kind)
    alice, romeo = sign_in('alice'), there.client()
    reaches(alice, romeo, 'before')
    there.stop()
    assert refused(alice, ROMEO) == 'remote-server-timeout'
    there.start()
    there.wait_ready()
    romeo = there.client()
    wait_until(lambda: arrives(alice, romeo), 'messages after the restart of the other server')
    client = api('administrator')
    body = {'domain': f'*.{PEER.partition(".")[2]}', 'direction': 'both', 'comment': 'not these'}
    assert client.post('/api/v1/xmpp-federation-domains/', body, format='json').status_code == 201
    in_force()
    reaches(romeo, alice, 'the saved policy is not in force yet')

    def restarts() -> list[tuple[str, str]]:
        rows = client.get('/api/v1/notifications/').json()['results']
        return [(row['rule'], row['service']) for row in rows if row['kind'] == 'restart']

    assert restarts() == [('RST-R23', 'xcp_router')]

    command('restart', 'xcp_router')
    federation.wait_ready()
    alice = sign_in('alice')
    assert refused(alice, ROMEO) == 'not-allowed'
    assert refused(romeo, ALICE).startswith('remote-server-')
    assert restarts() == []


@proves('FED-03')
def test_hosts_that_are_down(federation: Federation, peer: Callable[..., Peer], sign_in: SignIn, zone: Zone) -> None:
    """SRV with a dead target, domains without server, without answer."""
    there = peer(Prosody)
    zone.server(PEER, (1, 0, free_port(), 'dead.example.org'), (5, 0, there.port, 'alive.example.org'))
    alice, romeo = sign_in('alice'), there.client()
    reaches(alice, romeo, 'the second target')
    assert refused(alice, 'x@nowhere.example.net') == 'remote-server-not-found'
    zone.records['_xmpp-server._tcp.closed.example.net', 'SRV'] = ['0 0 0 .']
    assert refused(alice, 'x@closed.example.net') == 'remote-server-not-found'
    assert refused(alice, 'x@127.0.0.1') == 'remote-server-not-found'
    zone.server('down.example.net', (1, 0, free_port(), 'dead.example.org'))
    assert refused(alice, 'x@down.example.net') == 'remote-server-timeout'
    asked = dict(zone.asked)
    assert refused(alice, 'x@down.example.net') == 'remote-server-timeout'  # at once: it waits before it tries again
    assert zone.asked == asked, 'answers of DNS are kept'


def test_direct_tls(federation: Federation, peer: Callable[..., Peer], sign_in: SignIn, zone: Zone) -> None:
    """XEP-0368: TLS from the first byte in both directions, when DNS says so."""
    theirs, ours = free_port(), free_port()
    federation.parameters(server_direct_tls_port=ours)
    there = peer(Prosody, direct=theirs)
    for domain, port in ((PEER, theirs), (data.DOMAIN, ours)):
        del zone.records[f'_xmpp-server._tcp.{domain}', 'SRV']
        zone.server(domain, (5, 0, port, 'localhost'), service='_xmpps-server')
    alice, romeo = sign_in('alice'), there.client()
    reaches(alice, romeo, 'straight')
    reaches(romeo, alice, 'and back')
