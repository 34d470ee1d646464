"""The keys of this console for SAML: one signs messages, the other opens encrypted assertions. Made when they are first
needed, stored encrypted. Two, because what tries out one of them must not work on the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db import transaction
from django.utils import timezone

from impadmin.signin import vault
from impadmin.signin.models import SamlSignOn

Use = Literal['signing', 'encryption']
USES: tuple[Use, ...] = ('signing', 'encryption')
PURPOSES: dict[Use, str] = {'signing': 'saml key', 'encryption': 'saml encryption key'}
BITS = 3072
LIFE = timedelta(days=3653)
"""Providers compare the key of the metadata; the dates of its certificate hardly matter to them."""


def renew(*uses: Use) -> SamlSignOn:
    """New keys and their certificates."""
    values: dict[str, str] = {}
    for use in uses or USES:
        clear, certificate = _made()
        values |= {f'{use}_key': vault.seal(PURPOSES[use], clear), f'{use}_certificate': certificate}
    return SamlSignOn.objects.update_or_create(pk=1, defaults=values)[0]


def _made() -> tuple[str, str]:
    """A key and its certificate as PEM text."""
    key = rsa.generate_private_key(65537, BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'IM and Presence Service SAML')])
    now = timezone.now()
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + LIFE)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return _pem(key), made.public_bytes(serialization.Encoding.PEM).decode()


def _pem(key: rsa.RSAPrivateKey) -> str:
    clear = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return clear.decode()


def certificate(row: SamlSignOn, use: Use = 'signing') -> str:
    """The certificate in PEM form; made with its key at the first call."""
    name = f'{use}_certificate'
    if not getattr(row, name):
        with transaction.atomic():  # two first calls at the same moment make one key
            held = SamlSignOn.objects.select_for_update().get(pk=row.pk)
            setattr(row, name, getattr(held, name) or getattr(renew(use), name))
    return str(getattr(row, name))


def key(row: SamlSignOn, use: Use = 'signing') -> rsa.RSAPrivateKey:
    """The private key. Raises vault.Unreadable when the secret key of the installation has changed."""
    certificate(row, use)
    sealed = SamlSignOn.objects.values_list(f'{use}_key', flat=True).get(pk=row.pk)
    found = serialization.load_pem_private_key(vault.reveal(PURPOSES[use], sealed).encode(), None)
    assert isinstance(found, rsa.RSAPrivateKey)
    return found


@contextlib.contextmanager
def as_file(text: str) -> Iterator[str]:
    """The path of a file in memory, for programs that this process starts: pysaml2 and xmlsec1 take files only."""
    descriptor = os.memfd_create('saml')
    try:
        os.write(descriptor, text.encode())
        yield f'/proc/{os.getpid()}/fd/{descriptor}'
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def signing_key(row: SamlSignOn) -> Iterator[str]:
    """The path of a file in memory with the key that signs."""
    with as_file(_pem(key(row))) as path:
        yield path


def fingerprint(row: SamlSignOn) -> str:
    """SHA-256 of the certificate of signatures, as providers show it; '' before there is one."""
    if not row.signing_certificate:
        return ''
    return (
        x509.load_pem_x509_certificate(row.signing_certificate.encode()).fingerprint(hashes.SHA256()).hex(':').upper()
    )
