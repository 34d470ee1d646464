"""Dual connections (guide 2309-2364): two nodes with high availability and a third, clients that have an inactive
connection to the other node and go on there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import uvloop

from engine.contract import credentials
from engine.contract.recovery import FAILOVER, State
from engine.xmpp import ns
from tests.areas.chat_rooms import ENTER, alias_of, aliases, codes, enter, left
from tests.areas.test_xmpp_pep import form
from tests.areas.xmpp_fixtures import parameter
from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster, friends
from tests.fixtures.processes import wait_until
from tests.load.client import PASSWORD, Client, login_all
from tests.proves import proves
from tests.services.managedclient import CLIENT, ManagedClient
from tests.services.test_recovery_manager import SCALE, Group
from tests.xmppclient import XmppClient, condition

THIRD = 'imp3'
PUSH_SERVICE = f'pubsub.{data.DOMAIN}'
DUAL = f'{{{ns.DUAL}}}'


class DualClient(ManagedClient):
    """One connection of a client; ``inactive`` binds the second one."""

    inactive = False

    def second(self) -> DualClient:
        """Sign in and bind an inactive connection."""
        self.sign_in()
        self.send(
            f"<iq type='set' id='bind'><bind xmlns='{ns.BIND}'><resource>{self.resource}</resource>"
            f"<inactive xmlns='{ns.DUAL}'/></bind></iq>".encode()
        )
        self.answer = self.take(f'{CLIENT}iq')
        return self

    def ask(self, payload: str, kind: str = 'set') -> str:
        """Send a request; '' or the condition of the error that came."""
        self.send(f"<iq type='{kind}' id='ask'>{payload}</iq>".encode())
        answer = self.take(f'{CLIENT}iq', lambda found: found.get('id') == 'ask')
        error = answer.find(f'{CLIENT}error')
        return '' if error is None else f'{error.get("type")} {error[0].tag.partition("}")[2]}'

    def activate(self) -> str:
        """Ask for it."""
        return self.ask(f"<activate xmlns='{ns.DUAL}'/>")


@pytest.fixture
def group(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Two nodes with high availability whose links third ones reach, too."""
    monkeypatch.setenv('IMP_SRM_TIME_SCALE', str(SCALE))
    cluster.addresses[OTHER] = '127.0.0.2'
    return Group(cluster)


@pytest.fixture
def connect(cluster: Cluster) -> Iterator[Callable[..., DualClient]]:
    """``connect('alice', node)``: a connection that is not signed in."""
    made: list[DualClient] = []

    def make(user_id: str, node: str, resource: str = 'phone') -> DualClient:
        made.append(DualClient(cluster.engines[node], user_id, resource))
        return made[-1]

    yield make
    for client in made:
        client.close_all()


class Plain(Client):
    """A client without TLS; ``said`` is what the server said."""

    said = b''

    async def ask(self, text: str, needle: bytes) -> bytes:
        """Send, wait, remember."""
        found = await super().ask(text, needle)
        self.said += found
        return found


def without_tls(cluster: Cluster) -> bytes:
    """What a client hears that signs in without TLS, which the administrator has allowed."""
    client = Plain('plain', data.DOMAIN)

    async def sign_in() -> None:
        await login_all([client], cluster.engines[data.NODE].port, tls=False)
        client.close()

    uvloop.run(sign_in())
    return client.said


def seen(client: XmppClient, of: str) -> list[str]:
    """Types of the presence of a user received and not taken."""
    return [
        stanza.get('type', '')
        for stanza in client.stanzas
        if stanza.tag.endswith('}presence') and stanza.get('from', '').startswith(f'{of}@')
    ]


def counters(cluster: Cluster, node: str) -> tuple[float | None, float | None]:
    """Clients with an active and with an inactive connection."""
    return tuple(cluster.metric(node, f'imp_jsm_sessions_client{name}') for name in ('{', '_inactive{'))  # type: ignore[return-value]


def background_user(cluster: Cluster) -> None:
    """``dave`` at the first node is signed out and wants to be told of messages. Before the nodes start."""
    from django.utils import timezone

    from impadmin.presence.models import PushRegistration

    parameter('xcp_router', 'push_interval_s', 0)
    dave = cluster.make_user('dave')
    PushRegistration.objects.create(
        user=dave, service=PUSH_SERVICE, node='device', resource='r', options=b'', created_at=timezone.now()
    )


def push_service(cluster: Cluster) -> XmppClient:
    """Where he is told; a client that sees it."""
    cluster.make_user('pushd', node=THIRD)
    watcher = cluster.sign_in('pushd')
    create = f"<create node='device'/><configure>{form('node_config', publish_model='open')}</configure>"
    for inside in (create, f"<subscribe node='device' jid='{watcher.bare}'/>"):
        assert condition(watcher.iq('set', f"<pubsub xmlns='{ns.PUBSUB}'>{inside}</pubsub>", to=PUSH_SERVICE)) is None
    return watcher


@proves('HA-73', 'HA-76', 'HA-77', 'HA-78', 'HA-80', 'HA-81', 'HA-82', 'HA-83')
@pytest.mark.parametrize('crash', [False, True])
def test_contacts_do_not_see_the_switch(group: Group, connect: Callable[..., DualClient], crash: bool) -> None:
    from impadmin.osadmin.models import SecuritySettings

    cluster = group.cluster
    background_user(cluster)
    SecuritySettings.objects.update_or_create(pk=1, defaults={'client_secure_mode': False})
    cluster.make_user('plain', credentials=credentials.verifiers(PASSWORD))
    group.start(THIRD)
    cluster.linked()
    cluster.make_user('carol', node=THIRD)
    friends(('alice', 'carol'), ('alice', 'bob'))
    carol, bob = cluster.sign_in('carol'), cluster.sign_in('bob')
    other = cluster.engines[OTHER]

    active = connect('alice', data.NODE).sign_in()
    (offer,) = active.features.findall(f'{DUAL}dual')
    assert offer.attrib == {'peer': f'127.0.0.2:{other.port}', 'lower': '120', 'upper': '537'}
    assert ns.DUAL.encode() not in without_tls(cluster)
    active.bind()
    active.send(b"<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    active.send(b'<presence><show>away</show><status>on the road</status></presence>')
    for contact in (carol, bob):
        contact.expect('presence', from_=active.jid, status='on the road')
    rooms = there, here = [f'dual@{alias_of(name)}' for name in (THIRD, data.NODE)]
    wait_until(lambda: len(aliases(carol)) == 3, 'every node has rooms')
    for room in rooms:
        enter(carol, room, 'Carol')
        active.send(f"<presence to='{room}/Alice'>{ENTER}</presence>".encode())
        active.take(f'{CLIENT}message', lambda found, room=room: found.get('from') == room)
    second = connect('alice', OTHER).second()
    assert second.answer.get('type') == 'result'
    assert connect('alice', THIRD).second().answer.get('type') == 'error'  # it stands in for nobody
    connect('alice', data.NODE, 'laptop').sign_in().bind()
    connect('alice', OTHER, 'laptop').second()
    connect('bob', data.NODE, 'r').second()
    wait_until(lambda: counters(cluster, data.NODE) == (2, 1), 'two users of ours, one of the other node')
    assert counters(cluster, OTHER) == (1, 2)
    assert second.ask("<ping xmlns='urn:xmpp:ping'/>", 'get') == ''
    assert second.activate() == 'wait recipient-unavailable'
    second.send(f"<message to='{carol.bare}' id='m'><body>from nowhere</body></message>".encode())
    assert second.error('m') == 'unexpected-request'
    carol.say(active.jid, 'before')
    assert active.bodies(1) == ['before']

    if crash:
        pushes = push_service(cluster)
        cluster.engines[data.NODE].kill9()
        link = f'imp_node_link_up{{node="{THIRD}",other="{data.NODE}"}}'
        wait_until(lambda: cluster.metric(THIRD, link) == 0, 'the other nodes notice')
        carol.say(f'dave@{data.DOMAIN}', 'wake up')
        carol.sync()
        pushes.expect_none('message', within=0.5)
        carol.say(active.jid, 'in between')
    else:
        group.press(FAILOVER, data.NODE)
    group.until(None, (State.RUNNING_IN_BACKUP_MODE, None))
    if not crash:
        carol.say(active.jid, 'in between')
        carol.sync()
    wait_until(lambda: second.activate() == '', 'the node takes the client')
    if crash:
        pushes.expect('message', has=f'{{{ns.PUSH}}}notification')
    for contact in (carol, bob):
        contact.expect('presence', from_=active.jid, status='on the road')
    left(carol, there, 'Alice')
    left(carol, here, 'Carol', '332')
    assert '201' in codes(enter(carol, here, 'Carol'))
    assert second.bodies(1) == ['in between']
    carol.say(active.jid, 'after')
    assert second.bodies(1) == ['after']
    second.say(carol.jid, 'here I am')
    carol.expect('message', body='here I am', from_=active.jid)
    assert second.activate() == ''
    assert seen(carol, 'alice') == seen(bob, 'alice') == []
    assert counters(cluster, OTHER) == (2, 1)
    second.sync()
    assert not [element for element in second.elements if element.findtext(f'{CLIENT}body')]
    second.close()
    for contact in (carol, bob):
        contact.expect('presence', from_=active.jid, type='unavailable')
    if not crash:
        without_high_availability(cluster, connect)


def without_high_availability(cluster: Cluster, connect: Callable[..., DualClient]) -> None:
    """Inactive connections end, and none is offered."""
    from impadmin.system.models import RedundancyGroup

    inactive = connect('bob', OTHER, 'inactive').second()
    assert inactive.answer.get('type') == 'result'
    RedundancyGroup.objects.update(ha_enabled=False)
    data.publish_configuration()
    assert b'Dual connections are not offered any more.' in inactive.read_until(b'</stream:stream>')
    wait_until(lambda: counters(cluster, OTHER) == (1, 0), 'no inactive connection')
    late = connect('bob', OTHER, 'late').second()
    assert late.features.find(f'{DUAL}dual') is None
    assert late.answer.find(f'{CLIENT}error')[0].tag.endswith('}not-allowed')  # type: ignore[index]
