"""High availability with real nodes: two engine processes on one database, heartbeats over UDP, clients over TLS.

The timers run at 1/400 of their time: the 30 minutes of Automatic Fallback are four and a half seconds.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest

from engine.contract.recovery import FAILOVER, FALLBACK, RECOVER, Reason, State
from engine.contract.services import AUTHENTICATION, PRESENCE_ENGINE, SERVER_RECOVERY_MANAGER, XCP_ROUTER
from tests.areas.xmpp_fixtures import command, outcome, parameter
from tests.fixtures import data
from tests.fixtures.nodes import OTHER, Cluster, open_alarms
from tests.fixtures.processes import free_port, wait_until
from tests.fixtures.servers import environment
from tests.proves import proves
from tests.xmppclient import SignInFailed

ONE, TWO = data.NODE, OTHER
N, BACKUP, IDLE, OVER = State.NORMAL, State.RUNNING_IN_BACKUP_MODE, State.IDLE, State.FAILED_OVER
CRITICAL, FAILED = State.FAILED_OVER_CRITICAL, State.FAILED
NORMAL = (N, Reason.NORMAL)
SCALE = 1 / 400
TIMERS = {
    'keep_alive_interval_s': 0.5, 'keep_alive_timeout_s': 6, 'initialization_timeout_s': 6,
    'critical_service_delay_s': 1.5,
}  # fmt: skip
"""In seconds of the clock."""


class Group:
    """Two nodes in one group, high availability on."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def start(self, *further: str, enable: bool = True) -> Group:
        """Both nodes and ``further`` ones; with ``enable`` high availability, until they are Normal."""
        from impadmin.system.models import Node

        for name, seconds in TIMERS.items():
            self.set(name, seconds)
        parameter(SERVER_RECOVERY_MANAGER, 'service_port', free_port())
        self.cluster.start(*further, link=False)
        Node.objects.filter(name=TWO).update(address='127.0.0.2')
        if enable:
            self.enable()
            self.until(NORMAL, NORMAL)
        return self

    @staticmethod
    def set(name: str, seconds: float) -> None:
        """One of the timers."""
        parameter(SERVER_RECOVERY_MANAGER, name, round(seconds / SCALE))

    def enable(self) -> None:
        """Put the nodes into one group with high availability."""
        from impadmin.system.models import Node, RedundancyGroup

        first, second = Node.objects.get(name=ONE), Node.objects.get(name=TWO)
        RedundancyGroup.objects.filter(server1=second).delete()
        RedundancyGroup.objects.filter(server1=first).update(server2=second, ha_enabled=True)
        data.publish_configuration()

    def disable(self) -> None:
        """Switch high availability off."""
        from impadmin.system.models import RedundancyGroup

        RedundancyGroup.objects.update(ha_enabled=False)
        data.publish_configuration()

    @property
    def sides(self) -> tuple[tuple[str, str], ...]:
        """(state, reason) of both nodes, as the console reads them."""
        from impadmin.system.models import NodeRecovery

        rows = NodeRecovery.objects.filter(node__name__in=(ONE, TWO)).order_by('node__name')
        return tuple((row.state, row.reason) for row in rows)

    def until(self, *sides: tuple[State, Reason | None] | None, timeout_s: float = 60) -> None:
        """Wait until the nodes are in these states with these reasons (None: any)."""

        def reached() -> bool:
            now = self.sides
            return len(now) == len(sides) and all(
                want is None or (state == want[0] and want[1] in (None, reason))
                for want, (state, reason) in zip(sides, now, strict=True)
            )

        try:
            wait_until(reached, '', timeout_s)
        except pytest.fail.Exception:
            pytest.fail(f'{self.sides}, not {sides} within {timeout_s:.0f} s')

    def press(self, verb: str, node: str) -> None:
        """A button of the page; again while the nodes have not heard of each other's last change."""
        wait_until(lambda: outcome(verb, SERVER_RECOVERY_MANAGER, at=node) == '', f'{verb} is obeyed')

    def owner(self, node: str) -> str:
        """The node that serves the users of ``node``."""
        from impadmin.system.models import NodeRecovery

        found: str = NodeRecovery.objects.get(node__name=node).owner.name
        return found

    def signs_in(self, user_id: str, at: str) -> bool:
        """Whether the node serves this user."""
        try:
            self.cluster.connect(user_id, 'probe', at=at).close()
        except (SignInFailed, OSError, TimeoutError):
            return False
        return True

    def closed(self, node: str) -> bool:
        """Nobody listens on the client port."""
        engine = self.cluster.engines[node]
        try:
            socket.create_connection((engine.host, engine.port), 1).close()
        except OSError:
            return True
        return False

    def served(self, **at: str) -> None:
        """Wait until these users can sign in there."""
        for user_id, node in at.items():
            wait_until(lambda user_id=user_id, node=node: self.signs_in(user_id, node), f'{user_id} at {node}')


@pytest.fixture
def group(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Two nodes, started by ``group.start()``."""
    monkeypatch.setenv('IMP_SRM_TIME_SCALE', str(SCALE))
    return Group(cluster)


def alarms(name: str) -> list[str]:
    """Nodes that have raised an alarm of this name, as often as they did."""
    from impadmin.system.models import Alarm

    return list(Alarm.objects.filter(name=name).values_list('node__name', flat=True))


def runs() -> set[str]:
    """The present starts of the recovery managers."""
    from impadmin.system.models import NodeRecovery

    return set(NodeRecovery.objects.values_list('run_id', flat=True))


@proves('HA-44', 'HA-45', 'HA-46', 'HA-56', 'HA-57')
def test_failover_and_fallback_by_an_administrator(group: Group) -> None:
    """Clients of the relieved node are disconnected, those of the other stay; its client port stays closed over a
    restart of the node; after Fallback everybody is at home."""
    group.start()
    alice, bob = group.cluster.sign_in('alice'), group.cluster.sign_in('bob')
    group.press(FAILOVER, ONE)
    group.until((IDLE, Reason.ADMIN), (BACKUP, Reason.ADMIN))
    wait_until(lambda: not alice.connected and group.closed(ONE), 'the node serves nobody')
    assert (group.owner(ONE), group.owner(TWO), bob.connected) == (TWO, TWO, True)
    wait_until(lambda: group.signs_in('alice', TWO), 'the user is served by the other node')
    moved = group.cluster.sign_in('alice', 'moved', at=TWO)
    bob.say(moved.bare, 'hello')
    moved.expect('message', body='hello')
    assert 'Use Fallback' in outcome('start', XCP_ROUTER)
    assert f'{ONE} is Idle' in outcome(FAILOVER, SERVER_RECOVERY_MANAGER)
    group.cluster.engines[ONE].kill9()
    group.cluster.engines[ONE].start()
    group.until((IDLE, Reason.INITIALIZATION), (BACKUP, Reason.ADMIN))
    assert group.closed(ONE)
    command('restart', SERVER_RECOVERY_MANAGER, at=TWO)
    group.until((IDLE, Reason.INITIALIZATION), (BACKUP, Reason.INITIALIZATION))
    assert moved.connected
    group.press(FALLBACK, ONE)
    group.until(NORMAL, NORMAL)
    wait_until(lambda: not moved.connected, 'the user is sent home')
    group.served(alice=ONE)
    assert (bob.connected, group.owner(ONE), group.signs_in('alice', TWO)) == (True, ONE, False)
    assert (alarms('SRMFailoverCompleted'), alarms('SRMFallbackCompleted')) == ([TWO], [ONE])
    wait_until(lambda: open_alarms('SRMFailoverStarted') + open_alarms('SRMFallbackStarted') == [], 'no alarm')


@proves('HA-14', 'HA-21', 'HA-22', 'HA-35', 'HA-49', 'HA-50', 'HA-60')
def test_critical_service_and_automatic_fallback(group: Group) -> None:
    """Without high availability a stopped Presence Engine moves nobody and nothing listens; enabled, the users move.
    Running again the node is ready, and takes them back by itself."""
    from impadmin.system.models import NodeRecovery

    group.start(enable=False)
    command('stop', PRESENCE_ENGINE)
    assert not NodeRecovery.objects.exists()
    assert group_port() not in udp_ports()
    group.enable()
    group.until((CRITICAL, Reason.CRITICAL_DOWN), (BACKUP, Reason.CRITICAL_DOWN))
    assert group.owner(ONE) == TWO
    wait_until(lambda: open_alarms('CriticalServiceDown') == [ONE], 'alarm')
    group.served(alice=TWO)
    assert outcome(FALLBACK, SERVER_RECOVERY_MANAGER)
    command('start', PRESENCE_ENGINE)
    group.until((OVER, Reason.CRITICAL_DOWN), (BACKUP, Reason.CRITICAL_DOWN))
    parameter(SERVER_RECOVERY_MANAGER, 'automatic_fallback', True)
    group.until(NORMAL, NORMAL)
    group.served(alice=ONE)
    wait_until(lambda: open_alarms('CriticalServiceDown') == [], 'the alarm is over')
    alice = group.cluster.sign_in('alice')
    group.disable()
    wait_until(lambda: runs() == {''} and group_port() not in udp_ports(), 'the recovery managers stand still')
    assert set(group.sides) == {(State.UNKNOWN, Reason.NONE)}
    alice.sync()


def group_port() -> int:
    """The Service Port."""
    from impadmin.system.models import ParameterValue

    found: int = ParameterValue.objects.get(service=SERVER_RECOVERY_MANAGER, name='service_port').value
    return found


def udp_ports() -> set[int]:
    """Open UDP ports of this machine."""
    lines = Path('/proc/net/udp').read_text().splitlines()[1:]
    return {int(line.split()[1].split(':')[1], 16) for line in lines}


@proves('HA-18', 'HA-19', 'HA-24', 'HA-25', 'HA-30', 'HA-32')
def test_a_node_is_killed(group: Group) -> None:
    """kill -9: the other node takes over. A node that shuts down is not waited for."""
    from impadmin.system.models import NodeRecovery

    group.start()
    assert group_port() in udp_ports()
    alice = group.cluster.sign_in('alice')
    group.cluster.engines[ONE].kill9()
    group.until((State.NOT_RESPONDING, Reason.NONE), (BACKUP, Reason.PEER_DOWN))
    group.served(alice=TWO)
    assert not alice.connected
    wait_until(lambda: open_alarms('SRMPeerDown') == [TWO], 'alarm')
    ahead = f'{time.time_ns() + 10**15:020d}'
    row = NodeRecovery.objects.filter(node__name=ONE)
    row.update(run_id=ahead)  # its clock was wrong when it ran last: the other node has heard of a later run
    group.cluster.engines[ONE].start()
    group.until((OVER, Reason.INITIALIZATION), (BACKUP, Reason.PEER_REBOOT))
    assert row.get().run_id > ahead
    assert not group.signs_in('alice', ONE)
    group.press(FALLBACK, ONE)
    group.until(NORMAL, NORMAL)
    group.set('keep_alive_timeout_s', 60)
    group.served(alice=ONE)
    group.cluster.engines[ONE].stop()
    group.until(None, (BACKUP, Reason.PEER_REBOOT))
    group.served(alice=TWO)


@proves('HA-47', 'HA-48', 'HA-58')
def test_the_taking_node_is_killed_in_the_middle(group: Group) -> None:
    """It goes on when it is back, and every user is served there."""
    group.start()
    for name in TIMERS:
        if name != 'keep_alive_interval_s':
            group.set(name, 60)
    with psycopg.connect(environment()['DATABASE_URL']) as connection:
        connection.execute('LOCK TABLE end_user IN ACCESS EXCLUSIVE MODE')  # whoever takes users counts them
        group.press(FAILOVER, ONE)
        group.until((State.FAILING_OVER, Reason.ADMIN), (State.TAKING_OVER, Reason.ADMIN))
        wait_until(lambda: group.owner(ONE) == TWO, 'the middle')
        group.cluster.engines[TWO].kill9()
        group.cluster.engines[TWO].start()
        group.until((State.FAILING_OVER, Reason.ADMIN), (State.TAKING_OVER, Reason.INITIALIZATION))
    group.until((IDLE, Reason.ADMIN), (BACKUP, Reason.INITIALIZATION))
    group.served(alice=TWO, bob=TWO)


@proves('HA-13', 'HA-38', 'HA-53')
def test_both_fail_and_recover(group: Group) -> None:
    """High availability is enabled while critical services are down on both nodes. Recover restarts the recovery
    managers, starts the services and leads to Normal."""
    group.start(enable=False)
    for node in (ONE, TWO):
        command('stop', PRESENCE_ENGINE, at=node)
    group.enable()
    group.until((FAILED, Reason.CRITICAL_DOWN), (FAILED, Reason.CRITICAL_DOWN))
    wait_until(lambda: sorted(open_alarms('SRMFailed')) == [ONE, TWO], 'both raise the alarm')
    before = runs()
    group.press(RECOVER, ONE)
    group.until(NORMAL, NORMAL)
    assert not before & runs()
    group.served(alice=ONE, bob=TWO)
    wait_until(lambda: open_alarms('SRMFailed') == [], 'the alarm is over')


@proves('HA-26', 'HA-29', 'HA-41')
def test_auto_recovery(group: Group) -> None:
    """The backup loses a critical service while the other node is ready: all users move there. The Authentication
    Service is critical only when the parameter says so."""
    group.start()
    command('stop', AUTHENTICATION)
    parameter(SERVER_RECOVERY_MANAGER, 'authentication_monitoring', True)
    group.until((CRITICAL, Reason.CRITICAL_DOWN), (BACKUP, Reason.CRITICAL_DOWN))
    command('start', AUTHENTICATION)
    group.until((OVER, Reason.CRITICAL_DOWN), (BACKUP, Reason.CRITICAL_DOWN))
    command('stop', PRESENCE_ENGINE, at=TWO)
    group.until((State.BACKUP_ACTIVATED, Reason.AUTO_CRITICAL), (State.FAILOVER_AFFECTED, Reason.AUTO_CRITICAL))
    group.served(alice=ONE, bob=ONE)
    command('start', PRESENCE_ENGINE, at=TWO)
    group.until((State.BACKUP_ACTIVATED, Reason.AUTO_CRITICAL), (OVER, Reason.AUTO_CRITICAL))
    group.press(FALLBACK, TWO)
    group.until(NORMAL, NORMAL)


@proves('HA-31', 'HA-42')
def test_one_node_loses_its_database(group: Group, tmp_path: Path) -> None:
    """It gives its users to the other node; as the backup it gives all users to the node that is ready."""
    door = Door(tmp_path)
    group.start(enable=False)
    two = group.cluster.engines[TWO]
    two.extra['DATABASE_URL'] = door.url
    two.restart()
    group.enable()
    group.until(NORMAL, NORMAL)
    door.close()
    group.until((BACKUP, Reason.DATABASE), (CRITICAL, Reason.DATABASE))
    group.served(bob=ONE)
    door.open()
    group.until((BACKUP, Reason.DATABASE), (OVER, Reason.DATABASE))
    group.press(FALLBACK, TWO)
    group.until(NORMAL, NORMAL)
    command('stop', PRESENCE_ENGINE)
    group.until((CRITICAL, Reason.CRITICAL_DOWN), (BACKUP, Reason.CRITICAL_DOWN))
    command('start', PRESENCE_ENGINE)
    group.until((OVER, Reason.CRITICAL_DOWN), (BACKUP, Reason.CRITICAL_DOWN))
    door.close()
    group.until((State.BACKUP_ACTIVATED, Reason.AUTO_DATABASE), (State.FAILOVER_AFFECTED, Reason.AUTO_DATABASE))
    group.served(alice=ONE, bob=ONE)
    door.open()


class Door:
    """A way of one node to the database that can be closed."""

    def __init__(self, folder: Path) -> None:
        parts = urlsplit(environment()['DATABASE_URL'])
        (real,) = parse_qs(parts.query)['host']
        self._real = Path(real)
        self._folder = folder / 'db'
        self._folder.mkdir()
        self.url = parts._replace(query=f'host={quote(str(self._folder), safe="/")}').geturl()
        self.open()

    def open(self) -> None:
        """The database can be reached."""
        for path in self._real.glob('.s.PGSQL.*'):
            if path.is_socket():
                (self._folder / path.name).symlink_to(path)

    def close(self) -> None:
        """It cannot. All connections are ended; the other node makes new ones."""
        for path in self._folder.iterdir():
            path.unlink()
        with psycopg.connect(environment()['DATABASE_URL'], autocommit=True) as connection:
            connection.execute(
                'SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
                " WHERE datname = current_database() AND application_name LIKE 'imp-engine%'"
            )


@proves('HA-23', 'HA-33', 'HA-62', 'HA-63')
def test_nodes_that_do_not_hear_each_other(group: Group) -> None:
    """The network between the nodes is cut, the database is not: one of them wins, the other stops serving. The winner
    loses a critical service; when the network is repaired both are in failed mode, and Recover leads to Normal."""
    from impadmin.system.models import Node, ParameterValue

    group.start(enable=False)
    where = {ONE: '127.0.0.1', TWO: '127.0.0.2'}
    for name, address in where.items():
        ParameterValue.objects.create(
            service=SERVER_RECOVERY_MANAGER, name='bind_address', node=Node.objects.get(name=name), value=address
        )
    group.cluster.engines[TWO].kill9()
    Node.objects.filter(name=TWO).update(heartbeat_at=None)  # it has been gone for long
    group.enable()
    group.until((BACKUP, Reason.PEER_DOWN_INIT), (State.NOT_RESPONDING, Reason.NONE), timeout_s=40)
    group.cluster.engines[TWO].start()
    group.until((BACKUP, None), (OVER, Reason.INITIALIZATION))
    group.press(FALLBACK, TWO)
    group.until(NORMAL, NORMAL)
    Node.objects.update(address='127.0.0.9')  # nobody is there
    data.publish_configuration()
    wait_until(lambda: (BACKUP, Reason.PEER_DOWN) in group.sides, 'one of them takes over')
    winner = ONE if group.sides[0][0] == BACKUP else TWO
    loser = TWO if winner == ONE else ONE
    assert (group.owner(ONE), group.owner(TWO)) == (winner, winner)
    group.served(alice=winner, bob=winner)
    assert not group.signs_in('alice', loser)
    assert not group.signs_in('bob', loser)
    command('stop', PRESENCE_ENGINE, at=winner)
    wait_until(lambda: (FAILED, Reason.CRITICAL_DOWN) in group.sides, 'the winner fails')
    for name, address in where.items():
        Node.objects.filter(name=name).update(address=address)
    data.publish_configuration()
    group.until((FAILED, Reason.CRITICAL_DOWN), (FAILED, Reason.CRITICAL_DOWN))
    group.press(RECOVER, loser)
    group.until(NORMAL, NORMAL)
    group.served(alice=ONE, bob=TWO)
