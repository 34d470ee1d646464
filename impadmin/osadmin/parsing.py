"""Files with certificates, and whether a chain leads to what is trusted. Every refusal is a sentence for the reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from OpenSSL import crypto

from engine.contract.certificates import ECDSA, LARGEST, common_name

MOST = 20
"""Certificates in one file."""
_UNKNOWN = gettext_noop('The CA certificate %(issuer)s is not available in the trust store %(store)s. Upload it first.')
_PROBLEMS = {
    **dict.fromkeys((2, 18, 19, 20, 21), _UNKNOWN),
    9: gettext_noop('The CA certificate %(name)s is not valid yet.'),
    10: gettext_noop('The CA certificate %(name)s has expired.'),
}
"""What verification errors of OpenSSL (X509_V_ERR) mean; any other:"""
_BROKEN = gettext_noop('The chain is broken at %(name)s: %(reason)s.')


def wrong(text: str, field: str = 'file') -> ValidationError:
    """A refusal at a field of the form."""
    return ValidationError({field: text})


def certificates(file: Any) -> list[x509.Certificate]:
    """The certificates of an uploaded file: PEM, DER or PKCS #7, in the order of the file. Raises ValidationError."""
    if file.size > LARGEST:
        raise wrong(_('The file is larger than %(most)d KiB: it holds no certificates.') % {'most': LARGEST // 1024})
    data = file.read()
    if b'PRIVATE KEY-----' in data:
        raise wrong(_('The file has a private key. Keys are made here and never uploaded: send certificates only.'))
    found = _read(data)
    if not found:
        raise wrong(_('The file is no certificate. Send X.509 certificates in PEM, DER or PKCS #7 form.'))
    if len(found) > MOST:
        raise wrong(_('The file has %(count)d certificates, at most %(most)d.') % {'count': len(found), 'most': MOST})
    return found


def _read(data: bytes) -> list[x509.Certificate]:
    if b'-----BEGIN PKCS7-----' in data:
        readers: Sequence[Any] = (pkcs7.load_pem_pkcs7_certificates,)
    elif b'-----BEGIN' in data:
        readers = (x509.load_pem_x509_certificates,)
    else:
        readers = (lambda der: [x509.load_der_x509_certificate(der)], pkcs7.load_der_pkcs7_certificates)
    for reader in readers:
        try:
            found: list[x509.Certificate] = reader(data)
            for one in found:
                _ = one.public_key(), one.extensions
        except Exception:  # noqa: S112 - a file of strangers: whatever it raises, it is none
            continue
        return found
    return []


def usable(found: x509.Certificate) -> None:
    """Refuse what is not valid now or weakly signed. Raises ValidationError."""
    name, now = common_name(found.subject), timezone.now()
    if found.not_valid_after_utc < now:
        text = _('%(name)s expired on %(date)s.') % {'name': name, 'date': _day(found.not_valid_after_utc)}
        raise wrong(text)
    if found.not_valid_before_utc > now:
        text = _('%(name)s is valid from %(date)s on only.') % {'name': name, 'date': _day(found.not_valid_before_utc)}
        raise wrong(text)


def strong(found: x509.Certificate, name: str) -> None:
    """Refuse an own certificate whose key or signature is weak, or of the other kind than ``name`` says."""
    key = found.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) != name.endswith(ECDSA):
        shown = {'name': name, 'wanted': 'EC' if name.endswith(ECDSA) else 'RSA', 'kind': _kind(key)}
        raise wrong(_('%(name)s needs an %(wanted)s key; the certificate has an %(kind)s key.') % shown)
    if isinstance(found.signature_hash_algorithm, hashes.MD5 | hashes.SHA1):
        raise wrong(_('The certificate is signed with SHA-1 or MD5. Have it signed with SHA-256 or better.'))
    try:
        allowed = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(allowed):
        raise wrong(_('The certificate may not be shown by servers: its extended key usage lacks serverAuth.'))


def chain(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], store: str
) -> list[x509.Certificate]:
    """The authorities between ``leaf`` and a trusted certificate, in order, without roots. Raises ValidationError."""
    anchors = crypto.X509Store()
    anchors.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for one in trusted:
        anchors.add_cert(crypto.X509.from_cryptography(one))
    context = crypto.X509StoreContext(
        anchors, crypto.X509.from_cryptography(leaf), [crypto.X509.from_cryptography(one) for one in others]
    )
    try:
        verified = [one.to_cryptography() for one in context.get_verified_chain()]
    except crypto.X509StoreContextError as error:
        code = error.errors[0]
        at = error.certificate.to_cryptography()
        shown = {'name': common_name(at.subject), 'issuer': common_name(at.issuer), 'store': store}
        text = _(_PROBLEMS.get(code, _BROKEN))
        raise wrong(text % {**shown, 'reason': error.errors[2]}) from None
    return [one for one in verified[1:] if one.subject != one.issuer]


def leads(leaf: x509.Certificate, others: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]) -> bool:
    """Whether there is such a chain."""
    try:
        chain(leaf, others, trusted, '')
    except ValidationError:
        return False
    return True


def issuer_of(found: x509.Certificate, among: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The certificate that has signed ``found``."""
    for one in among:
        if one.subject == found.issuer:
            try:
                found.verify_directly_issued_by(one)
            except Exception:  # noqa: S112 - a signature of another key, or one nobody can check
                continue
            return one
    return None


def _kind(key: Any) -> str:
    return 'EC' if isinstance(key, ec.EllipticCurvePublicKey) else 'RSA' if isinstance(key, rsa.RSAPublicKey) else '?'


def _day(at: Any) -> str:
    return f'{at:%Y-%m-%d}'
