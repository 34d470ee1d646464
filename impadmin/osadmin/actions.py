"""What Certificate Management does: make keys, certificates and requests, and take signed and trusted certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from engine.contract import issuing
from engine.contract.certificates import (
    ECDSA,
    IDENTITIES,
    STORES,
    alternative_names,
    common_name,
    describe,
    host_names,
    is_authority,
    is_self_signed,
    key_id,
    missing,
    purpose_of,
)
from impadmin.console.actions import Actor, Refused
from impadmin.console.page import Result
from impadmin.console.registry import page_url
from impadmin.osadmin import naming, parsing
from impadmin.osadmin.forms import MULTI, SUBJECT, general_name
from impadmin.osadmin.models import Certificate, CertificateKey, Kind, NodeKey, Origin
from impadmin.system.models import Node

LIFE_DAYS = 5 * 365
MOST_TRUSTED = 500
"""Certificates in one trust store."""


def generate(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Generate New Self-signed Certificate (guide 4722-4734)."""
    nodes = _nodes(data['distribution'])
    purpose, key = purpose_of(data['purpose']), issuing.make_key(data['bits'])
    terms = issuing.Terms(
        _subject(data, nodes),
        [general_name(name) for name in data['names']] or naming.suggested(purpose, nodes),
        data.get('days') or LIFE_DAYS,
        data['algorithm'],
    )
    row = _own(data, describe(issuing.self_signed(key, purpose, terms)), Kind.IDENTITY)
    _seal(row, key, nodes)
    return Result(_in_force(row), url=page_url('certificates', 'edit', row.pk), data={'id': row.pk})


def request(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Generate Certificate Signing Request (guide 4677-4692). An earlier one of the same name goes."""
    nodes = _nodes(data['distribution'])
    purpose, key = purpose_of(data['purpose']), issuing.make_key(data['bits'])
    names = [general_name(name) for name in data['names']] or [
        name for name in naming.suggested(purpose, nodes) if isinstance(name, x509.DNSName | x509.IPAddress)
    ]
    made = issuing.request(key, purpose, issuing.Terms(_subject(data, nodes), names, algorithm=data['algorithm']))
    row = _own(data, describe(made), Kind.CSR)
    _seal(row, key, nodes)
    text = _('Download the request, have it signed, and upload the certificate. Nothing changes until then.')
    return Result(text, url=page_url('certificates', 'edit', row.pk), data={'id': row.pk, 'csr': row.pem})


def regenerate(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Make a self-signed certificate anew, with the names it should have now (guide 4675, 1388-1400)."""
    old = objects[0]
    place = {'purpose': old.name, 'distribution': old.node.name if old.node is not None else MULTI}
    bits = int(old.key_type.rpartition(' ')[2])
    return generate(actor, [], {**place, 'bits': bits, 'names': [], 'algorithm': 'SHA256', 'common_name': ''})


def cannot_regenerate(one: Certificate) -> str:
    """Why not, or ''."""
    if one.kind != Kind.IDENTITY or one.name not in IDENTITIES:
        return _('Only own certificates are regenerated.')
    if not one.self_signed:
        return _('It is signed by an authority: generate a request and have it signed anew.')
    return _('It is a file of the node: put another one in its place.') if one.origin == Origin.FILE else ''


def cannot_delete(one: Certificate) -> str:
    """Why not, or ''."""
    if one.kind == Kind.IDENTITY and one.origin in (Origin.NODE, Origin.FILE):
        return _('The node has it of itself. Generate or upload another one.')
    if one.kind != Kind.TRUST:
        return ''
    found = x509.load_pem_x509_certificate(one.pem.encode())
    held = [other for pk, other in _trusted(one.name) if pk != one.pk]
    for identity in Certificate.objects.filter(kind=Kind.IDENTITY, self_signed=False).select_related('node'):
        if identity.name not in IDENTITIES or purpose_of(identity.name).trust != one.name:
            continue
        leaf, *chain = x509.load_pem_x509_certificates(f'{identity.pem}{identity.chain}'.encode())
        if parsing.leads(leaf, chain, [*held, found]) and not parsing.leads(leaf, chain, held):
            return _('The certificate %(name)s is signed by it.') % {'name': identity}
    return ''


def upload(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Upload Certificate/Certificate Chain (guide 4451-4476, 4548-4578)."""
    found = parsing.certificates(data['file'])
    if data['purpose'] in STORES:
        return _trust(data['purpose'], found, data)
    return _signed(data['purpose'], found, data)


def _signed(name: str, found: Sequence[x509.Certificate], data: Mapping[str, Any]) -> Result:
    """Take a certificate that an authority has signed."""
    keys = {key_id(one): one for one in found}
    ours = Certificate.objects.filter(name=name, key_id__in=keys, keys__isnull=False).exclude(kind=Kind.TRUST)
    base = ours.distinct().order_by('kind').select_related('node').first()  # a request ('csr') goes before 'identity'
    if base is None:
        first = found[0] if len(found) == 1 else next((one for one in found if not is_authority(one)), found[0])
        parsing.strong(first, name)
        raise parsing.wrong(
            _('The key of the certificate is not that of a request for %(name)s. Generate a CSR and have that signed.')
            % {'name': name}
        )
    leaf = keys[base.key_id]
    parsing.usable(leaf)
    parsing.strong(leaf, name)
    if absent := missing(_dns(base.names.split()), host_names(alternative_names(leaf))):
        text = _('The certificate lacks names of the request: %(names)s. Have it signed with all of them.')
        raise parsing.wrong(text % {'names': ', '.join(absent)})
    store = purpose_of(name).trust
    others = [one for one in found if one is not leaf]
    chain = [] if is_self_signed(leaf) else parsing.chain(leaf, others, [one for _pk, one in _trusted(store)], store)
    sealed = list(base.keys.values_list('node_id', 'sealed'))
    place = {'purpose': name, 'distribution': base.node.name if base.node is not None else MULTI}
    row = _own({**place, **_described(data)}, describe(leaf, chain), Kind.IDENTITY, Origin.UPLOADED)
    CertificateKey.objects.bulk_create(
        CertificateKey(certificate=row, node_id=node, sealed=text) for node, text in sealed
    )
    Certificate.objects.filter(kind=Kind.CSR, name=name, node=row.node).delete()
    return Result(_in_force(row), url=page_url('certificates', 'edit', row.pk), data={'id': row.pk})


def _trust(store: str, found: Sequence[x509.Certificate], data: Mapping[str, Any]) -> Result:
    """Put authorities, or single servers, into a trust store."""
    held = [one for _pk, one in _trusted(store)]
    if len(held) + len(found) > MOST_TRUSTED:
        raise Refused(_('%(store)s holds at most %(most)d certificates.') % {'store': store, 'most': MOST_TRUSTED})
    for one in found:
        parsing.usable(one)
        if is_authority(one) and not is_self_signed(one) and parsing.issuer_of(one, found) is None:
            _must_follow(one, held, data['preceding'].strip(), store)
    rows = []
    for one in found:
        row = describe(one)
        if not Certificate.objects.filter(kind=Kind.TRUST, name=store, fingerprint=row['fingerprint']).exists():
            made = Certificate(name=store, kind=Kind.TRUST, origin=Origin.UPLOADED, **row, **_described(data))
            made.save()
            rows.append(made)
    if not rows:
        raise parsing.wrong(_('%(store)s has it already.') % {'store': store})
    text = ngettext(
        '%(count)d certificate was put into %(store)s. It counts after the restart that Active Notifications name.',
        '%(count)d certificates were put into %(store)s. They count after the restart that Active Notifications name.',
        len(rows),
    )
    return Result(text % {'count': len(rows), 'store': store}, data={'ids': [row.pk for row in rows]})


def _must_follow(one: x509.Certificate, held: Sequence[x509.Certificate], preceding: str, store: str) -> None:
    """An intermediate authority follows on the named certificate of the store."""
    shown = {'name': common_name(one.subject), 'issuer': common_name(one.issuer), 'given': preceding, 'store': store}
    if not preceding:
        text = _('%(name)s is an intermediate authority. Name the certificate before it in the chain: %(issuer)s.')
        raise parsing.wrong(text % shown, 'preceding')
    named = [other for other in held if common_name(other.subject) == preceding]
    if not named:
        text = _('%(store)s has no certificate %(given)s. Upload the certificates of a chain from the root on.')
        raise parsing.wrong(text % shown, 'preceding')
    if parsing.issuer_of(one, named) is None:
        text = _('%(name)s is not signed by %(given)s, but by %(issuer)s.')
        raise parsing.wrong(text % shown, 'preceding')


# ---- the parts


def _nodes(distribution: str) -> list[Node]:
    """The nodes that shall show a certificate; each must have published its key."""
    nodes = list(Node.objects.order_by('-publisher', 'name').defer('link_certificate'))
    chosen = nodes if distribution == MULTI else [node for node in nodes if node.name == distribution]
    known = set(NodeKey.objects.values_list('node_id', flat=True))
    if silent := [node.name for node in chosen if node.pk not in known]:
        text = _('The key cannot be given to %(nodes)s: start the engine there once, then try again.')
        raise Refused(text % {'nodes': ', '.join(silent)})
    return chosen


def _subject(data: Mapping[str, Any], nodes: Sequence[Node]) -> x509.Name:
    suggested = nodes[0].name
    if data['distribution'] == MULTI:
        host, dot, rest = suggested.partition('.')
        suggested = f'{host}-ms{dot}{rest}'
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, (data.get('common_name') or suggested)[:64])]
    parts += [x509.NameAttribute(oid, data[name]) for name, oid in SUBJECT.items() if data.get(name)]
    return x509.Name(parts)


def _own(
    data: Mapping[str, Any], described: Mapping[str, Any], kind: Kind, origin: Origin = Origin.GENERATED
) -> Certificate:
    """A new row in place of what has its name: on the node, or with Multi-Server on every node."""
    name, node = data['purpose'], None
    former = Certificate.objects.filter(kind=kind, name=name)
    if data['distribution'] != MULTI:
        node = Node.objects.get(name=data['distribution'])
        former = former.filter(node=node)
    description = data.get('description', '') or ''.join(former.filter(node=node).values_list('description', flat=True))
    former.delete()
    row = Certificate(name=name, kind=kind, node=node, origin=origin, **{'description': description, **described})
    row.save()
    return row


def _seal(row: Certificate, key: issuing.Key, nodes: Sequence[Node]) -> None:
    """Keep the key where only these nodes can read it."""
    clear = issuing.key_pem(key)
    public = dict(NodeKey.objects.filter(node__in=nodes).values_list('node_id', 'public'))
    CertificateKey.objects.bulk_create(
        CertificateKey(certificate=row, node=node, sealed=issuing.seal(public[node.pk], clear, row.key_id))
        for node in nodes
    )


def _described(data: Mapping[str, Any]) -> dict[str, str]:
    return {'description': data.get('description', '')}


def _dns(names: Sequence[str]) -> list[str]:
    """The names that are no addresses: authorities sign those rarely."""
    return [name for name in names if not name.replace('.', '').isdigit() and ':' not in name]


def _trusted(store: str) -> list[tuple[int, x509.Certificate]]:
    rows = Certificate.objects.filter(kind=Kind.TRUST, name=store).values_list('pk', 'pem')
    return [(pk, x509.load_pem_x509_certificate(pem.encode())) for pk, pem in rows]


def _in_force(row: Certificate) -> str:
    other = row.name.removesuffix(ECDSA) if row.name.endswith(ECDSA) else row.name + ECDSA
    text = _('%(name)s is shown after the restart that Active Notifications name; the old one serves until then.')
    if Certificate.objects.filter(kind=Kind.IDENTITY, name=other, node=row.node).exclude(origin=Origin.NODE).exists():
        text += ' ' + _('%(other)s stays: which of them is shown depends on what a client can use.')
    return text % {'name': row.name, 'other': other}
