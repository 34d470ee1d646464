"""Heartbeats on the wire: sealed with a key only the two nodes have, and proof against replay.

The key is that of the two node certificates (ECDH), so nothing secret is stored beyond what a node has anyway. A
heartbeat counts only when it repeats the number of one this node sent in its present run, not long ago: what was
recorded earlier keeps no dead node alive. The repeated number also is the peer's word that it does not take this node
for lost before ``timeout_s`` after it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.recovery.records import Status

_DIGEST = hashlib.sha256
_SIZE = 32
LONGEST = 8192
REMEMBERED = 256
KEEP = 0.9
"""Share of a promised time that is used: clocks do not run alike."""


def pair_key(own_pem: bytes, peer_pem: bytes, nodes: tuple[int, int]) -> bytes:
    """The key of two nodes. ``own_pem``: private key and certificate of this one; ``peer_pem``: certificate."""
    private = serialization.load_pem_private_key(own_pem, None)
    public = x509.load_pem_x509_certificate(peer_pem).public_key()
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError('a node certificate has no elliptic curve key')
    info = f'recovery manager {min(nodes)} {max(nodes)}'.encode()
    return HKDF(hashes.SHA256(), 32, None, info).derive(private.exchange(ec.ECDH(), public))


class Heartbeats:
    """One end of the link. ``run``: of this start; runs of one node are in order as text."""

    def __init__(self, group: int, peer: int, run: str) -> None:
        self.group, self.peer, self.run = group, peer, run
        self.key = b''
        self.seq = 0
        self.heard_run, self.heard_seq = '', 0
        self._sent: OrderedDict[int, float] = OrderedDict()

    def seal(self, status: Status, now: float) -> bytes:
        """``status`` as the next heartbeat."""
        self.seq += 1
        self._sent[self.seq] = now
        while len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        status = msgspec.structs.replace(
            status, run=self.run, seq=self.seq, echo=self.heard_seq, echo_run=self.heard_run
        )
        body = msgspec.msgpack.encode(status)
        return hmac.digest(self.key, body, _DIGEST) + body

    def open(self, data: bytes, now: float) -> tuple[Status, float] | str:
        """A heartbeat of the other node and until when its echo lets this node serve; or why it does not count.
        'unproven': it is the other node's, but repeats nothing this node said lately: answer it."""
        if not self.key:
            return 'no key'
        body = data[_SIZE:]
        if len(data) > LONGEST or not hmac.compare_digest(hmac.digest(self.key, body, _DIGEST), data[:_SIZE]):
            return 'not sealed by the other node'
        try:
            status = msgspec.msgpack.decode(body, type=Status)
        except msgspec.DecodeError:
            return 'of another release'
        if (status.group, status.node) != (self.group, self.peer):
            return 'of another group'
        if (status.run, status.seq) <= (self.heard_run, self.heard_seq):
            return 'repeated'
        sent_at = self._sent.get(status.echo) if status.echo_run == self.run else None
        if sent_at is None or now - sent_at > status.timeout_s:
            self.heard_run, self.heard_seq = status.run, status.seq
            return 'unproven'
        self.heard_run, self.heard_seq = status.run, status.seq
        return status, 0.0 if status.goodbye else sent_at + status.timeout_s * KEEP
