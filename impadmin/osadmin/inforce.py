"""What the configuration says of certificates: which one each node shows, and what each trust store holds."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from engine.contract.certificates import STORES
from impadmin.osadmin.models import Certificate, CertificateKey, Kind


@dataclass(slots=True)
class OfNode:
    """``engine.contract.config.Node``: fingerprints by name."""

    certificates: dict[str, str] = field(default_factory=dict)
    regenerated: dict[str, str] = field(default_factory=dict)


def of_nodes() -> dict[int, OfNode]:
    """By node id. A certificate of the node goes before one of all nodes; what it has no key of is not there."""
    found: dict[int, OfNode] = defaultdict(OfNode)
    keys = CertificateKey.objects.filter(certificate__kind=Kind.IDENTITY)
    rows = keys.order_by('certificate__node_id', 'certificate__name').values_list(
        'node_id', 'certificate__node_id', 'certificate__name', 'certificate__fingerprint', 'certificate__self_signed'
    )
    for node, own, name, fingerprint, self_signed in rows:
        if own is None and name in found[node].certificates:
            continue
        found[node].certificates[name] = fingerprint
        if self_signed:
            found[node].regenerated[name] = fingerprint
    return found


def trust() -> dict[str, str]:
    """Number of certificates and digest of each trust store that has any."""
    held: dict[str, list[str]] = {}
    rows = Certificate.objects.filter(kind=Kind.TRUST, name__in=STORES).order_by('fingerprint')
    for name, fingerprint in rows.values_list('name', 'fingerprint'):
        held.setdefault(name, []).append(fingerprint)
    return {
        name: f'{len(fingerprints)} {hashlib.sha256("".join(fingerprints).encode()).hexdigest()[:12]}'
        for name, fingerprints in sorted(held.items())
    }


def text(value: Any) -> str:
    """A value of the above in an Active Notification."""
    return ':'.join(value[at : at + 2] for at in range(0, 16, 2)) + '…' if value else _('of the node itself')


def trust_text(value: Any) -> str:
    """The same of a trust store."""
    count, _space, digest = (value or '0').partition(' ')
    shown = ngettext('%(count)d certificate', '%(count)d certificates', int(count)) % {'count': int(count)}
    return f'{shown} ({digest})' if digest else shown
