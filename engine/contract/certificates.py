"""Certificates by the product's names: what each is for, who shows it, what it trusts, and how it reads (guide
4297-4329, 4712-4720)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from engine.contract.config import Config
from engine.contract.service_keys import FEDERATION_MANAGER, SIP_PROXY, UDS_TOMCAT, XCP_ROUTER

ECDSA: Final = '-ECDSA'
"""Ending of the name of a certificate with an elliptic-curve key; the others have an RSA key."""
XMPP_ADDRESS: Final = ObjectIdentifier('1.3.6.1.5.5.7.8.5')
"""id-on-xmppAddr, RFC 6120 13.7.1.4."""
LARGEST: Final = 64 * 1024
"""Bytes of a file with certificates."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a certificate of a node is for.

    services  keys of the services to restart for a new one (RST-R29 to R32)
    trust     trust store of the authorities that sign it
    domains   whether it names the hosted domains; multi: whether all nodes may share one
    ipsec, agreement  extended usage ipsecEndSystem and usage keyAgreement of table 17
    """

    name: str
    trust: str
    services: tuple[str, ...]
    domains: bool = False
    multi: bool = False
    ipsec: bool = False
    agreement: bool = False

    @property
    def names(self) -> tuple[str, str]:
        """With an RSA and with an elliptic-curve key."""
        return self.name, self.name + ECDSA


TOMCAT, CUP, CUP_XMPP, CUP_XMPP_S2S = 'tomcat', 'cup', 'cup-xmpp', 'cup-xmpp-s2s'
PURPOSES: Final[Mapping[str, Purpose]] = {
    one.name: one
    for one in (
        Purpose(TOMCAT, 'tomcat-trust', (UDS_TOMCAT,), domains=True, multi=True),
        # Cisco Presence Engine shows it to calendar servers only; there are none yet.
        Purpose(CUP, 'cup-trust', (SIP_PROXY,), ipsec=True, agreement=True),
        Purpose(CUP_XMPP, 'cup-xmpp-trust', (XCP_ROUTER,), domains=True, multi=True, ipsec=True, agreement=True),
        Purpose(
            CUP_XMPP_S2S,
            'cup-xmpp-trust',
            (FEDERATION_MANAGER,),
            domains=True,
            multi=True,
            ipsec=True,
            agreement=True,
        ),
    )
}
NODE_LINK: Final = 'node-link'
"""The certificate by which the nodes of a cluster know each other (decision 0011)."""
CLIENT_TRUST: Final = 'cup-xmpp-client-trust'
"""Authorities that may vouch for users (decision 0018)."""
STORES: Final = ('tomcat-trust', 'cup-trust', 'cup-xmpp-trust', CLIENT_TRUST)
IDENTITIES: Final = tuple(name for one in PURPOSES.values() for name in one.names)


def purpose_of(name: str) -> Purpose:
    """The purpose of the certificate called ``name``. KeyError when there is none."""
    return PURPOSES[name.removesuffix(ECDSA)]


# ---- names


def subject_names(node_name: str, address: str, domains: Iterable[str]) -> list[x509.GeneralName]:
    """Subject alternative names of a self-signed certificate: every hosted domain as dNSName and xmppAddr, the node's
    name and address. ``domains``: may have ``*.DOMAIN`` beside DOMAIN, for which it is no name (RFC 6125 6.4.3)."""
    hosts = sorted({domain.lower() for domain in domains})
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
    for text in dict.fromkeys((node_name, address)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            if text and text.isascii() and text.lower() not in hosts:
                names.append(x509.DNSName(text.lower()))
    names += [x509.OtherName(XMPP_ADDRESS, _utf8_string(host)) for host in hosts if not host.startswith('*')]
    return names


def _utf8_string(text: str) -> bytes:
    """DER of a UTF8String; a domain has at most 255 bytes."""
    data = text.encode()
    return bytes([0x0C]) + (bytes([len(data)]) if len(data) < 128 else bytes([0x81, len(data)])) + data


def alternative_names(found: Found) -> list[x509.GeneralName]:
    """The subject alternative names; [] without or with broken ones."""
    try:
        return list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, ValueError):
        return []


def host_names(names: Iterable[x509.GeneralName]) -> list[str]:
    """DNS names and addresses as text."""
    return [str(one.value) for one in names if isinstance(one, x509.DNSName | x509.IPAddress)]


def missing(wanted: Iterable[str], shown: Iterable[str]) -> list[str]:
    """The domains of ``wanted`` that no name of ``shown`` stands for (RFC 6125 6.4.3), sorted."""
    known = {name.lower() for name in shown}
    return sorted(name for name in wanted if name not in known and f'*.{name.partition(".")[2]}' not in known)


def hosted(purpose: Purpose, config: Config) -> list[str]:
    """The domains that a certificate for ``purpose`` names. Wildcards are for federation alone (guide 4657-4675)."""
    if not purpose.domains:
        return []
    hosts = set(config.domains)
    if purpose.name == CUP_XMPP_S2S:
        hosts |= {one.domain for one in config.components}
        hosts |= {f'*.{host}' for host in hosts} if config.security.wildcards else set()
    return sorted(hosts)


# ---- how a certificate reads


Found = x509.Certificate | x509.CertificateSigningRequest


def describe(found: Found, chain: Iterable[x509.Certificate] = ()) -> dict[str, Any]:
    """The columns of the table ``certificate`` that follow from a certificate and its chain, or from a request."""
    key = found.public_key()
    size = key.key_size if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else ''
    kind = 'RSA' if isinstance(key, rsa.RSAPublicKey) else 'EC' if isinstance(key, ec.EllipticCurvePublicKey) else '?'
    described = {
        'common_name': common_name(found.subject),
        'key_type': f'{kind} {size}'.strip(),
        'names': '\n'.join(host_names(alternative_names(found))),
        'key_id': key_id(found),
        'pem': pem(found),
        'chain': ''.join(pem(one) for one in chain),
    }
    if isinstance(found, x509.CertificateSigningRequest):
        return described
    return {
        **described,
        'issuer': common_name(found.issuer),
        'serial': f'{found.serial_number:x}',
        'starts_at': found.not_valid_before_utc,
        'ends_at': found.not_valid_after_utc,
        'fingerprint': found.fingerprint(hashes.SHA256()).hex(),
        'self_signed': is_self_signed(found),
    }


def pem(found: Found) -> str:
    """The PEM text."""
    return found.public_bytes(serialization.Encoding.PEM).decode()


def key_id(found: Found) -> str:
    """SHA-256 of the public key, in hexadecimal: the same for a request and the certificate it led to."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        found.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return digest.finalize().hex()


def common_name(name: x509.Name) -> str:
    """The common name, or the whole name when there is none; at most 250 characters."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return (str(found[-1].value) if found else name.rfc4514_string())[:250]


def is_self_signed(found: x509.Certificate) -> bool:
    """Whether the certificate was signed with its own key."""
    if found.subject != found.issuer:
        return False
    try:
        found.verify_directly_issued_by(found)
    except Exception:  # whatever a strange key raises, it has not signed this
        return False
    return True


def is_authority(found: x509.Certificate) -> bool:
    """Whether the certificate may sign others."""
    try:
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


_IPSEC_END_SYSTEM: Final = ObjectIdentifier('1.3.6.1.5.5.7.3.5')


def usages(purpose: Purpose, *, signs: bool = False) -> tuple[x509.KeyUsage, x509.ExtendedKeyUsage]:
    """Key usage and extended key usage of table 17; ``signs``: of a certificate that is its own issuer."""
    ipsec = (_IPSEC_END_SYSTEM,) if purpose.ipsec else ()
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=True, data_encipherment=True,
        key_agreement=purpose.agreement, key_cert_sign=signs, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return usage, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, *ipsec])
