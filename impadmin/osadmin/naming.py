"""The names that certificates of this cluster should have, and the certificates that lack some (guide 1388-1400,
4657-4675)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy

from engine.contract.certificates import (
    CUP_XMPP,
    CUP_XMPP_S2S,
    ECDSA,
    PURPOSES,
    Purpose,
    hosted,
    missing,
    subject_names,
)
from engine.contract.config import Config
from engine.contract.restarts import CERTIFICATES as MENU
from impadmin.console import generations, notifications
from impadmin.console.notifications import Notification
from impadmin.osadmin.models import Certificate, Kind, Origin
from impadmin.system.models import Node


def suggested(purpose: Purpose, nodes: Sequence[Node]) -> list[x509.GeneralName]:
    """The subject alternative names of a certificate for these nodes."""
    hosts = hosted(purpose, generations.newest() or generations.compiled())
    return list(dict.fromkeys(name for node in nodes for name in subject_names(node.name, node.address, hosts)))


def wanted_names(config: Config) -> dict[str, list[str]]:
    """Purpose -> names that its certificates must have; only clients and servers of domains check them."""
    return {name: hosted(PURPOSES[name], config) for name in (CUP_XMPP, CUP_XMPP_S2S)}


def lacking(one: Certificate, wanted: Mapping[str, list[str]]) -> list[str]:
    """The names that an own certificate should have and has not."""
    if one.kind != Kind.IDENTITY or one.origin == Origin.NODE:
        return []  # the node renews it when the services restart, as they must for a new domain
    return missing(wanted.get(one.name.removesuffix(ECDSA), ()), one.names.split())


@notifications.register_advice
def advice(newest: Config) -> Iterable[Notification]:
    """Certificates to regenerate."""
    wanted = wanted_names(newest)
    for one in Certificate.objects.filter(kind=Kind.IDENTITY).exclude(origin=Origin.NODE).select_related('node'):
        if names := lacking(one, wanted):
            yield Notification(
                key=f'advice:certificate:{one.name}:{one.place}',
                kind='advice',
                severity='Medium',
                node=one.node.name if one.node is not None else '',
                service='',
                page=MENU,
                since=one.created_at or datetime.now(UTC),
                text=format_lazy(
                    gettext_lazy('The certificate {name} does not name {domains}. Generate a new one.'),
                    name=one.name,
                    domains=', '.join(names[:5]) + (' …' if len(names) > 5 else ''),
                ),
            )
