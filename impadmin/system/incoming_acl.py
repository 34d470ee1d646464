"""System > Security > Incoming ACL (guide 3967, 12522)."""

from __future__ import annotations

import ipaddress
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.page import Fieldset, Help, Page
from impadmin.system.models import IncomingAcl
from impadmin.system.rules import is_host_name


def pattern_names_somebody(entry: IncomingAcl, before: Any) -> None:
    """An address, a network, a name or ALL, in one spelling, so that the same peer is not listed twice."""
    text = entry.address_pattern.strip()
    try:
        entry.address_pattern = str(ipaddress.ip_network(text)).removesuffix('/32').removesuffix('/128')
    except ValueError:
        if text.upper() != 'ALL' and (not is_host_name(text) or text.rpartition('.')[2].isdigit()):
            help_text = _('Enter an IP address, a network such as 192.0.2.0/24, a host or domain name, or ALL.')
            raise ValidationError({'address_pattern': help_text}) from None
        entry.address_pattern = 'ALL' if text.upper() == 'ALL' else text.lower()
    if IncomingAcl.objects.exclude(pk=entry.pk).filter(address_pattern=entry.address_pattern).exists():
        raise ValidationError({'address_pattern': _('%(name)s is in the list already.') % {'name': text}})


INCOMING_ACL = Page(
    name='incoming-acls',
    console='admin',
    area='system',
    menu='System > Security > Incoming ACL',
    title=gettext_lazy('Incoming ACL'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy(
        'Who may send SIP requests to this cluster without signing in. A host in this list speaks for every user.'
    ),
    help=Help(
        when=gettext_lazy('Before another Unified CM cluster or SIP server sends presence to this one.'),
        effect=gettext_lazy(
            'Cisco SIP Proxy accepts requests from these addresses and refuses others with 403. List '
            'only hosts that check their own users.'
        ),
        guide='3967, 12522',
    ),
    configures=True,
    model=IncomingAcl,
    columns=('address_pattern', 'description'),
    find=('address_pattern', 'description'),
    fieldsets=(Fieldset(gettext_lazy('Incoming ACL'), ('description', 'address_pattern')),),
    rules=(pattern_names_somebody,),
    copy_clear=('address_pattern',),
    sample=lambda n: {'description': f'Site {n}', 'address_pattern': f'192.0.2.{n}'},
    bad={'description': ('', 'x' * 129), 'address_pattern': ('', '10.1.1.300', '10.1.1.1/8', 'a b', 'x' * 256)},
)
