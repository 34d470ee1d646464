"""Two complete installations for tests: each has a database, a Redis database, a folder, and its own console (HTTPS),
worker and engine. The second database is a copy of the first one as installed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection

from engine import tls
from tests import settings as test_settings
from tests.fixtures import data, servers
from tests.fixtures.processes import Engine, Process, free_port, wait_until
from tests.fixtures.tls import trusting
from tests.xmppclient import XmppClient

GOOD = ('Synchronised', 'Links down')
SHORT = '127.2'
"""Another way to write the address of the second cluster."""


class Cluster:
    """One installation. ``host`` is the address of its node, console and engine; ``processes`` by kind."""

    def __init__(self, name: str, host: str, database: str, redis: str, folder: Path) -> None:
        self.name, self.host, self.database, self.redis, self.folder = name, host, database, redis, folder
        self.port = free_port()
        self.certificate = tls.certificate(folder / 'console', name, host, ())
        self.processes: list[Process] = []
        self.engine: Engine
        self.clients: list[XmppClient] = []
        self.token = ''

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The test process is part of this installation: models, and the processes it starts."""
        before = connection.settings_dict['NAME'], {key: os.environ.get(key) for key in self.environment()}
        connection.close()
        self._use(self.database, self.environment())
        try:
            yield
        finally:
            connection.close()
            self._use(*before)

    def _use(self, database: str, environment: dict[str, Any]) -> None:
        connection.settings_dict['NAME'] = settings.DATABASES['default']['NAME'] = database
        for key, value in environment.items():
            os.environ.pop(key, None) if value is None else os.environ.update({key: value})

    def environment(self) -> dict[str, str]:
        """What tells its processes from those of the other one."""
        return {
            'REDIS_URL': self.redis,
            'IMP_VAR': str(self.folder),
            'IMP_CHANNEL_PREFIX': f'{self.name}-{os.getpid()}',
            'IMP_ALLOWED_HOSTS': f'{self.host},{SHORT}',
        }

    def start(self) -> None:
        """Name the node and start everything."""
        from impadmin.system.models import Node, ParameterValue

        with self.inside():
            Node.objects.update(name=self.name, address=self.host)
            node = Node.objects.get()
            ParameterValue.objects.create(service='xcp_router', name='peer_link_address', node=node, value=self.host)
            ParameterValue.objects.create(service='xcp_router', name='peer_link_port', node=node, value=free_port())
            ParameterValue.objects.create(service='xcp_router', name='peer_link_timeout_s', value=120)
            self.token = data.make_token('administrator')
            self.engine = Engine(self.name)
            console = ['-m', 'uvicorn', 'impadmin.asgi:application', '--host', self.host, '--port', str(self.port)]
            files = ['--ssl-keyfile', str(self.certificate), '--ssl-certfile', str(self.certificate)]
            self.console = Process(f'console-{self.name}', [*console, *files, '--no-access-log'])
            worker = ['-m', 'celery', '-A', 'impadmin', 'worker', '-Q', 'default', '--concurrency', '1', '-l', 'INFO']
            self.worker = Process(f'worker-{self.name}', [*worker, '--without-gossip', '--without-mingle'])
        self.processes = [self.engine, self.console, self.worker]

    def wait_ready(self) -> None:
        """Everything answers."""
        self.engine.wait_ready()
        wait_until(lambda: self.rest('GET', 'local-cluster/')[0] == 200, f'the console of {self.name} answers')
        wait_until(lambda: ' ready.' in self.worker.log(), f'the worker of {self.name} is ready')
        wait_until(self._agents_run, f'the sync agents of {self.name} run')

    def _agents_run(self) -> bool:
        told = self.rest('GET', 'local-cluster/')[1]
        agents = told['sync_agent'] and told['intercluster_sync_agent']
        return bool(agents and all(node['certificate'] for node in told['nodes']))

    def stop(self) -> None:
        """End everything."""
        for client in self.clients:
            client.abort()
        for process in self.processes:
            process.stop()

    def rest(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """Status and JSON of one REST call over HTTPS."""
        headers = {'Content-Type': 'application/json', 'Authorization': f'Bearer {token or self.token}'}
        content = None if body is None else json.dumps(body).encode()
        url = f'https://{self.host}:{self.port}/api/v1/{path}'
        request = urllib.request.Request(url, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=trusting()) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b'null')
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b'null')
        except OSError:
            return 0, None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate its console shows, as an administrator copies it."""
        pem = self.certificate.read_text()
        der = ssl.PEM_cert_to_DER_cert(pem[pem.index('-----BEGIN CERT') :])
        return hashlib.sha256(der).hexdigest()

    def as_peer(self, **others: Any) -> dict[str, Any]:
        """What another cluster's administrator enters for this one, with a new token."""
        _, made = self.rest('POST', 'local-cluster/new-token/', {'name': 'the other one'})
        entry = {'address': self.host, 'port': self.port, 'fingerprint': self.fingerprint}
        return entry | {'token': made['data']['token'], 'description': ''} | others

    def peer(self) -> dict[str, Any]:
        """Its entry for the other cluster; {} without one."""
        found = self.rest('GET', 'inter-clustering/')[1]['results']
        return found[0] if found else {}

    def synced(self, what: Callable[[dict[str, Any]], bool] = lambda peer: peer['status'] in GOOD) -> dict[str, Any]:
        """Ask the other cluster until ``what`` is so of the entry."""

        def asked() -> dict[str, Any] | None:
            peer = self.peer()
            if peer and what(peer):
                return peer
            if peer:
                self.rest('POST', f'inter-clustering/{peer["id"]}/sync/', {})
            return None

        return wait_until(asked, f'the peer of {self.name}', every_s=0.5)

    def restart_engine(self) -> None:
        """Start the killed engine again."""
        with self.inside():
            self.engine.restart()

    def linked(self, up: bool = True) -> None:
        """Wait until its engine says so of the link to the other cluster."""
        from impadmin.presence.models import PeerLink

        def so() -> bool:
            with self.inside():
                return list(PeerLink.objects.values_list('up', flat=True)) == [up]

        wait_until(so, f'link of {self.name}: {up}', every_s=0.2)

    def add_user(self, user_id: str, address: str = '') -> str:
        """An end user who can sign in; the IM address."""
        from impadmin.system.models import Node
        from impadmin.ucm.models import EndUser

        address = address or f'{user_id}@{data.DOMAIN}'
        with self.inside():
            EndUser.objects.create(
                user_id=user_id, last_name=user_id, home_node=Node.objects.get(), im_address=address,
                credentials=data._verifiers(data.PASSWORD),
            )  # fmt: skip
        return address

    def sign_in(self, address: str, resource: str = 'r', available: bool = True, **options: Any) -> XmppClient:
        """A client of a user of this cluster."""
        client = XmppClient(f'{address}/{resource}', data.PASSWORD, host='127.0.0.1', port=self.engine.port)
        client.connect()
        self.clients.append(client)
        client.roster()
        if available:
            client.available(**options)
            client.expect('presence', from_=client.jid, type='')
        return client


@contextlib.contextmanager
def two_clusters() -> Iterator[tuple[Cluster, Cluster]]:
    """Both, in an installed test database (fixture ``db``) and a copy of it. To be started; no peers yet."""
    first = settings.DATABASES['default']['NAME']
    second = f'{first}_b'
    redis, number = os.environ['REDIS_URL'], servers.redis_database()
    folder = test_settings.FOLDER / 'second'
    _copy(first, second)
    clusters = (
        Cluster('imp1', '127.0.0.1', first, redis, Path(os.environ['IMP_VAR'])),
        Cluster('imp2', '127.0.0.2', second, redis.replace(f'db={number}', f'db={number + 10}'), folder),
    )
    try:
        yield clusters
    finally:
        for cluster in clusters:
            cluster.stop()
        with clusters[1].inside():
            servers.empty_redis()
        _drop(second)
        shutil.rmtree(folder, ignore_errors=True)


def _server() -> psycopg.Connection[Any]:
    values = connection.get_connection_params()
    names = ('host', 'port', 'user', 'password')
    return psycopg.connect(
        dbname='postgres', autocommit=True, **{name: values[name] for name in names if values.get(name)}
    )


def _copy(first: str, second: str) -> None:
    connection.close()
    with _server() as server:
        server.execute('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s', [first])
        server.execute(f'DROP DATABASE IF EXISTS "{second}" WITH (FORCE)'.encode())
        server.execute(f'CREATE DATABASE "{second}" TEMPLATE "{first}"'.encode())


def _drop(second: str) -> None:
    with _server() as server:
        server.execute(f'DROP DATABASE IF EXISTS "{second}" WITH (FORCE)'.encode())
