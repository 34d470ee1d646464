"""Federation with real servers of another make, Prosody and ejabberd, in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.areas.xmpp_fixtures import address, sign_in
from tests.fixtures import data
from tests.fixtures.federation import PEER, PEER_USER, Ejabberd, Federation, Peer, Prosody
from tests.fixtures.processes import Engine
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


def refused(client: XmppClient, to: str, timeout: float = 15) -> str:
    """The error a message to ``to`` is answered with."""
    identity = client.say(to, 'is anybody there?')
    return condition(client.expect('message', type='error', id=identity, timeout=timeout))


def reaches(sender: XmppClient, receiver: XmppClient, body: str) -> None:
    """A message arrives, with its own sender."""
    sender.say(receiver.bare, body)
    receiver.expect('message', body=body, from_=sender.bare, timeout=15)


@proves('FED-01', 'FED-03', 'XMP-26', 'XMP-27')
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
    romeo.expect('presence', type='subscribe', from_=ALICE, timeout=15)
    romeo.presence('subscribed', to=ALICE)
    alice.expect('presence', type='subscribed', from_=ROMEO, timeout=15)
    alice.expect('presence', type='', from_=romeo.jid, timeout=15)
    romeo.presence('subscribe', to=ALICE)
    alice.expect('presence', type='subscribe', from_=ROMEO, timeout=15) if not automatic() else None
    romeo.expect('presence', type='subscribed', from_=ALICE, timeout=15)
    romeo.expect('presence', type='', from_=alice.jid, timeout=15)
    alice.available(show='dnd', status='in a meeting')
    romeo.expect('presence', from_=alice.jid, show='dnd', status='in a meeting', timeout=15)

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
    alice.expect('presence', type='unavailable', from_=romeo.jid, timeout=15)
    romeo.abort()
    log = engine.log()
    assert 'mechanism=EXTERNAL' in log
    assert 'mechanism=dialback' not in log
    assert ('bidi=True' in log) == (kind is Prosody)


def automatic() -> bool:
    """Whether requests are approved without a question."""
    from impadmin.presence.models import PresenceSettings

    return PresenceSettings.objects.get(pk=1).auto_approve
