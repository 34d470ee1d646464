"""Presence > Gateways (guide 3214-3233, 12529)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.page import Fieldset, Help, Page
from impadmin.presence.models import PresenceGateway
from impadmin.system.rules import is_host_name, is_ip_address


def gateway_can_be_used(gateway: PresenceGateway, before: Any) -> None:
    """An address that can be one, and at most one gateway of the type CUCM (guide 3943)."""
    if not is_ip_address(gateway.address) and not is_host_name(gateway.address):
        raise ValidationError({'address': _('Enter an IP address, an FQDN or a DNS SRV name.')})
    others = PresenceGateway.objects.exclude(pk=gateway.pk).filter(type='cucm')
    if gateway.type == 'cucm' and (other := others.first()):
        text = _('Only one Unified CM cluster can be the presence gateway: %(name)s is it.') % {'name': other}
        raise ValidationError({'type': text})


GATEWAYS = Page(
    name='presence-gateways',
    console='admin',
    area='presence',
    menu='Presence > Gateways',
    title=gettext_lazy('Presence Gateways'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Servers that tell the service whether a user is on the phone or in a meeting.'),
    help=Help(
        when=gettext_lazy('When availability should show calls and meetings besides what clients report.'),
        effect=gettext_lazy('Cisco Presence Engine subscribes to the server and adds its answers to availability.'),
        guide='3214-3233, 12529',
    ),
    waits_for=gettext_lazy('It waits for the SIP subscriptions of Cisco Presence Engine.'),
    model=PresenceGateway,
    columns=('address', 'type', 'description'),
    find=('address', 'type', 'description'),
    fieldsets=(Fieldset(gettext_lazy('Presence Gateway'), ('type', 'description', 'address', 'port')),),
    rules=(gateway_can_be_used,),
    copy_clear=('address',),
    sample=lambda n: {'type': 'ews', 'description': f'Site {n}', 'address': f'mail{n}.example.com', 'port': 443},
    bad={'type': ('fax',), 'description': ('', 'x' * 129), 'address': ('', 'a b'), 'port': (0, 65536, 'many')},
)
