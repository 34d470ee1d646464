"""The key with which this console signs SAML messages: made when it is first needed, stored encrypted."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db import transaction
from django.utils import timezone

from impadmin.signin import vault
from impadmin.signin.models import SamlSignOn

PURPOSE = 'saml key'
BITS = 3072
LIFE = timedelta(days=3653)
"""Providers compare the key of the metadata; the dates of its certificate hardly matter to them."""


def renew() -> SamlSignOn:
    """A new key and its certificate."""
    key = rsa.generate_private_key(65537, BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'IM and Presence Service SAML')])
    now = timezone.now()
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + LIFE)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    clear = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    values = {
        'signing_key': vault.seal(PURPOSE, clear.decode()),
        'signing_certificate': made.public_bytes(serialization.Encoding.PEM).decode(),
    }
    return SamlSignOn.objects.update_or_create(pk=1, defaults=values)[0]


def certificate(row: SamlSignOn) -> str:
    """The certificate in PEM form; made with its key at the first call."""
    if not row.signing_certificate:
        with transaction.atomic():  # two first calls at the same moment make one key
            held = SamlSignOn.objects.select_for_update().get(pk=row.pk)
            row.signing_certificate = held.signing_certificate or renew().signing_certificate
    return row.signing_certificate


def key(row: SamlSignOn) -> rsa.RSAPrivateKey:
    """The private key. Raises vault.Unreadable when the secret key of the installation has changed."""
    certificate(row)
    sealed = SamlSignOn.objects.values_list('signing_key', flat=True).get(pk=row.pk)
    found = serialization.load_pem_private_key(vault.reveal(PURPOSE, sealed).encode(), None)
    assert isinstance(found, rsa.RSAPrivateKey)
    return found


def fingerprint(row: SamlSignOn) -> str:
    """SHA-256 of the certificate, as providers show it; '' before there is one."""
    if not row.signing_certificate:
        return ''
    return (
        x509.load_pem_x509_certificate(row.signing_certificate.encode()).fingerprint(hashes.SHA256()).hex(':').upper()
    )
