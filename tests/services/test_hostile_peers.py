"""A peer cluster whose console tells what cannot be: refused as a whole with the reason, and what was known stays."""

from __future__ import annotations

import hashlib
import json
import queue
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine import tls
from engine.cluster.wire import Identity
from impadmin.console import sealed
from impadmin.presence import peer_client, peer_exchange, peer_sync
from impadmin.presence.models import InterclusterPeer, PeerDomain, PeerNode
from impadmin.presence.peer_exchange import Buckets, Told
from tests.proves import proves


class Liar:
    """A console of a peer that tells ``told``; ``drip_s``: the time between two bytes."""

    def __init__(self, folder: Path) -> None:
        liar = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(liar.told).encode()
                self.send_response(200)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                try:
                    for at in range(0, len(body), 1 if liar.drip_s else len(body)):
                        time.sleep(liar.drip_s)
                        self.wfile.write(body[at : at + 1] if liar.drip_s else body)
                    liar.ends.put('told')
                except OSError:
                    liar.ends.put('hung up')

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.told: dict[str, Any] = {}
        self.drip_s = 0.0
        self.ends: queue.Queue[str] = queue.Queue()
        """How each answer ended."""
        self.path = tls.certificate(folder, 'liar', '127.0.0.1', ())
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Page)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def pem(self) -> str:
        """Its certificate."""
        text = self.path.read_text()
        return text[text.index('-----BEGIN CERT') :]

    @property
    def fingerprint(self) -> str:
        """As an administrator enters it."""
        return peer_client.written(hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.pem)).hexdigest())


@pytest.fixture
def liar(db: None, tmp_path: Path) -> Iterator[Liar]:
    made = Liar(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def peer(liar: Liar) -> InterclusterPeer:
    """The entry for it."""
    return InterclusterPeer.objects.create(
        address='liar.example', port=liar.server.server_port, fingerprint=liar.fingerprint,
        sealed=sealed.seal(peer_client.PURPOSE, b'imp_token'),
    )  # fmt: skip


def about(liar: Liar, **others: Any) -> dict[str, Any]:
    """What a cluster tells that is in order."""
    node = {'id': 1, 'name': 'liar.example', 'address': '127.0.0.1', 'port': 22, 'publisher': True}
    scheme = peer_exchange.about().address_scheme
    return {
        'protocol': 1, 'uid': '5f0c8a3e-7a8b-4f57-9d64-1fb0d2f1a001', 'cluster_id': 'Liars', 'address_scheme': scheme,
        'users': 0, 'nodes': [node | {'certificate': liar.pem}], 'domains': [], 'digests': {},
        'peers': [peer_exchange.identity()], 'sync_agent': True, 'intercluster_sync_agent': True,
    } | others  # fmt: skip


def synchronised(peer: InterclusterPeer) -> InterclusterPeer:
    """The entry after another synchronisation."""
    peer_sync.synchronise(peer.pk, forced=True)
    peer.refresh_from_db()
    return peer


@proves('IC-24')
def test_what_cannot_be_is_refused(liar: Liar, peer: InterclusterPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_client.socket, 'create_connection', _to_itself(peer_client.socket.create_connection))
    liar.told = about(liar)
    assert synchronised(peer).state == 'synced', peer.problem
    node = liar.told['nodes'][0]
    domain = {'name': 'x.example', 'configured': True, 'users': 1}
    for wrong in (
        {'domains': [domain | {'name': f'd{n}.example'} for n in range(10_001)]},
        {'domains': [domain | {'users': 2**40}]},
        {'digests': {'300': 'x'}},
        {'digests': {str(n): 'x' for n in range(-2, 3)}},
        {'nodes': [node, node]},
        {'nodes': [node | {'id': 2**70}]},
        {'cluster_id': 'Li\0ars'},
        {'users': -1},
    ):
        liar.told = about(liar, **wrong)
        assert synchronised(peer).state == 'failed', str(wrong)[:100]
        assert peer.problem, str(wrong)[:100]
    assert (PeerDomain.objects.count(), PeerNode.objects.count()) == (0, 1)
    liar.told = about(liar)
    assert synchronised(peer).state == 'synced'


def _to_itself(connect: Any) -> Any:
    """The name of the peer is found nowhere."""
    return lambda address, *rest: connect(('127.0.0.1', address[1]), *rest)


def test_an_answer_that_never_ends(liar: Liar, peer: InterclusterPeer) -> None:
    """A byte now and then does not keep a worker of the console."""
    peer.address = '127.0.0.1'
    liar.told = {'buckets': []}
    assert peer_client.get(peer, '', Buckets, 5.0).buckets == []
    liar.drip_s = 0.2
    with pytest.raises(peer_client.PeerProblem):
        peer_client.get(peer, '', Buckets, 0.5)
    assert [liar.ends.get(timeout=20) for _ in range(2)] == ['told', 'hung up']
    liar.drip_s = 0.0
    with pytest.raises(peer_client.PeerProblem, match='cannot be read'):
        peer_client.get(peer, '', Told, 5.0)


def test_the_token_goes_to_no_other_address(liar: Liar, peer: InterclusterPeer, api: Any) -> None:
    """Whoever may change the address could read it there otherwise."""
    client = api('administrator')
    url = f'/api/v1/inter-clustering/{peer.pk}/'
    for change, kept in (
        ({'description': 'x', 'address': 'liar.example'}, True),
        ({'address': '127.0.0.9', 'fingerprint': 'AB' * 32}, False),
        ({'token': 'imp_new'}, True),
    ):
        assert client.patch(url, change, format='json').status_code == 200
        peer.refresh_from_db()
        assert bool(peer.sealed) is kept
    peer.sealed = ''
    with pytest.raises(peer_client.PeerProblem, match='Enter it again'):
        peer_client.get(peer, '', Told)


def test_a_certificate_that_is_none_costs_no_other_link(tmp_path: Path) -> None:
    identity, other = Identity(tmp_path / 'own', 'own'), Identity(tmp_path / 'other', 'other')
    broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
    identity.learn({1: broken, 2: other.pem, 3: 'nonsense'})
    assert list(identity.known.values()) == [2]
