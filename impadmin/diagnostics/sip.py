"""Tests of System Troubleshooter for Cisco SIP Proxy (guide 11231, spec 14)."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.certificates import CUP, PURPOSES
from engine.contract.services import SIP_PROXY
from impadmin.console.diagnosis import Check, Problem, Section, register
from impadmin.console.facts import Facts
from impadmin.diagnostics.diagnosis import stopped
from impadmin.diagnostics.facts import cluster
from impadmin.osadmin.models import Certificate, Kind
from impadmin.system.models import IncomingAcl, ParameterValue, ServiceActivation

PROXY = Section(gettext_lazy('SIP Proxy'), 15)


def _in_use() -> bool:
    return ServiceActivation.objects.filter(service=SIP_PROXY).exists()


def somebody_may_speak(facts: Facts) -> Iterator[Problem]:
    """Without entries and authorities every SIP request is refused."""
    authorities = Certificate.objects.filter(kind=Kind.TRUST, name=PURPOSES[CUP].trust)
    if _in_use() and not IncomingAcl.objects.exists() and not authorities.exists():
        yield Problem(
            _('Cisco SIP Proxy refuses every request: the Incoming ACL is empty and cup-trust has no certificate.'),
            _('Add the SIP servers to the Incoming ACL, or the authority of the users to cup-trust.'),
            warning=True,
        )


def domain_is_known(facts: Facts) -> Iterator[Problem]:
    """Addresses of Unified CM are recognized by their domain."""
    publisher = next((node for node in facts(cluster).nodes if node.publisher), None)
    names = (publisher.address, publisher.name) if publisher is not None else ()
    has_domain = any('.' in name and not name.rpartition('.')[2].isdigit() for name in names)
    if _in_use() and not has_domain and not _saved('cucm_domain'):
        yield Problem(
            _('The CUCM Domain is not set, and the publisher has no DNS domain.'),
            _('Set CUCM Domain to the DNS domain of the Unified CM cluster.'),
            warning=True,
        )


def _saved(name: str) -> bool:
    return ParameterValue.objects.filter(service=SIP_PROXY, name=name).exclude(value='').exists()


register(
    Check(name='sip-proxy', section=PROXY, title=gettext_lazy('Cisco SIP Proxy runs where it is activated'),
          page='control-center', run=stopped(lambda key: key == SIP_PROXY)),
    Check(name='sip-senders', section=PROXY, title=gettext_lazy('Somebody may send SIP requests'), page='incoming-acls',
          run=somebody_may_speak),
    Check(name='cucm-domain', section=PROXY, title=gettext_lazy('The domain of Unified CM is known'),
          page='service-parameters', run=domain_is_known),
)  # fmt: skip
