"""The certificates of a node: those made in the console, files of an operator, or its own; and the trust stores.

For each purpose the first of these that there is: what the console has (RSA, ECDSA or both; keys are sealed to this
node, decision 0032), ``var/tls/NODE/PURPOSE/own.pem`` (key and chain), a self-signed one the node makes and renews.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519

from engine import tls
from engine.contract import issuing
from engine.contract.certificates import CUP_XMPP, NODE_LINK, PURPOSES, STORES, Purpose, describe, hosted
from engine.contract.config import Config
from engine.contract.messages import Text, message
from engine.store import certificates as store
from engine.store.pool import Unavailable
from engine.tls import Identity

if TYPE_CHECKING:
    from engine.node import Node

log = structlog.get_logger(__name__)

OWN = 'own.pem'
ALARM = 'CertificateKeyMissing'
_UNLISTED = (*Unavailable, psycopg.errors.UndefinedTable)
"""What keeps a node from telling the console which certificate it shows; it shows it all the same."""


class Certificates:
    """What services ask for: ``identities`` and ``trusted``. ``node.certificates`` is the one of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._folder = node.var / 'tls' / node.name.replace('/', '_')
        self._loaded: dict[str, Identity] = {}
        """By fingerprint: a service that starts again shows what it showed, though the console has a newer one by
        now, until the service that the restart rule names starts."""
        self._key: x25519.X25519PrivateKey

    async def begin(self) -> None:
        """Publish the key to which the console seals, and take over the trust stores of earlier releases."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = _sealing_key(self._folder / 'sealing.key')
        try:
            await store.introduce(self._node.store, self._node.id, issuing.public_text(self._key))
            for name in STORES:
                await self._take_over(name)
        except psycopg.errors.UndefinedTable:
            log.warning('the database lacks the tables of certificates: the node shows its own')

    async def identities(self, config: Config, purpose: str, served: Config | None = None) -> tuple[Identity, ...]:
        """What to show for ``purpose``, one or two (RSA and ECDSA). ``config``: of the service that the restart rule
        names; ``served``: where it has other domains than those served, the one that has them. Raises ValueError
        naming a file that cannot be read, and what the store raises."""
        own = config.node(self._node.name)
        names = PURPOSES[purpose].names
        saved = own.certificates if own is not None else {}
        found = [one for name in names if name in saved and (one := await self._saved(name, saved[name])) is not None]
        if found:
            await self._listed(names)
        else:
            found = [await self._of_the_node(PURPOSES[purpose], served or config)]
        return tuple(found)

    async def trusted(self, name: str) -> list[x509.Certificate]:
        """The certificates in a trust store."""
        return [x509.load_pem_x509_certificate(pem.encode()) for pem in await store.trusted(self._node.store, name)]

    async def _saved(self, name: str, fingerprint: str) -> Identity | None:
        if fingerprint in self._loaded:
            return self._loaded[fingerprint]
        row = await store.find(self._node.store, self._node.id, fingerprint)
        if row is None:
            log.info('a certificate was replaced before it was shown', name=name)
            return None
        key = issuing.unseal(self._key, row.sealed, row.key_id) if row.sealed else None
        alarm = f'{ALARM}: {name}'
        if key is None:
            self._node.raise_alarm(alarm, message(Text.CERTIFICATE_KEY_MISSING, name=name, node=self._node.name))
            return None
        self._node.clear_alarm(alarm)
        found = Identity(row.name, key, (row.pem + row.chain).encode())
        self._loaded[fingerprint] = found
        return found

    async def _of_the_node(self, purpose: Purpose, config: Config) -> Identity:
        folder = self._folder / purpose.name
        origin, path = 'file', folder / OWN
        if not path.exists():
            origin, own = 'node', config.node(self._node.name)
            path = tls.certificate(
                self._folder if purpose.name == CUP_XMPP else folder,  # where clients were told to find it
                self._node.name,
                own.address if own is not None else '',
                hosted(purpose, config),
                purpose,
            )
        key, chain = _read(path)
        name = purpose.names[0 if isinstance(chain[0].public_key(), rsa.RSAPublicKey) else 1]
        row = describe(chain[0], chain[1:])
        await self._listed(purpose.names, name, origin, row)
        return Identity(name, key, f'{row["pem"]}{row["chain"]}'.encode())

    async def of_links(self, path: Path) -> None:
        """Have the certificate of the links to other nodes listed."""
        await self._listed((), NODE_LINK, 'node', describe(_read(path)[1][0]))

    async def _listed(
        self, names: Iterable[str], name: str = '', origin: str = '', row: Mapping[str, Any] | None = None
    ) -> None:
        """Tell the console which certificate of ``names`` the node has of itself, if any."""
        with contextlib.suppress(*_UNLISTED):
            await store.forget(self._node.store, self._node.id, [one for one in names if one != name])
            if row is not None:
                await store.shows(self._node.store, self._node.id, name, origin, row)

    async def _take_over(self, name: str) -> None:
        """Earlier releases had trust stores as folders of files: what is there goes into the database, once."""
        folder = self._folder / name
        try:
            found = tls.trusted_in(folder)
        except ValueError as error:
            log.error('this file is not in the trust store', name=name, error=str(error))
            return
        if not found:
            return
        for one in found:
            await store.trust(self._node.store, name, describe(one))
        folder.rename(folder.with_name(f'{name}.imported-{os.urandom(3).hex()}'))
        log.info('certificates of a folder are in the trust store now', name=name, count=len(found))


def _read(path: Path) -> tuple[bytes, list[x509.Certificate]]:
    """Key (PEM) and certificates of a file, the node's own first. Raises ValueError naming the file."""
    try:
        data = path.read_bytes()
        chain = x509.load_pem_x509_certificates(data)
        key = serialization.load_pem_private_key(data, None)
        if key.public_key() != chain[0].public_key():
            raise ValueError('they do not belong together')
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f'{path} does not hold a private key and its certificate: {error}') from None
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()), chain


def _sealing_key(path: Path) -> x25519.X25519PrivateKey:
    """The node's private key for what is sealed to it; made at the first start."""
    if not path.exists():
        tls.write_private(path, x25519.X25519PrivateKey.generate().private_bytes_raw().hex().encode())
    return x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
