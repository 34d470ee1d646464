"""Messaging > External Server Setup > External Components (XEP-0114)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.jid import InvalidJID, prepare_domain
from impadmin.console.access import Right
from impadmin.console.actions import Actor
from impadmin.console.page import Fieldset, Help, Page
from impadmin.messaging import names
from impadmin.messaging.models import ExternalComponent

LEAST = 12
"""Characters of a secret."""


def secret_field(obj: Any) -> forms.Field:
    """The secret, or nothing to keep the present one."""
    stays = obj is not None and obj.pk
    return forms.CharField(
        label=gettext_lazy('Secret'),
        required=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={'autocomplete': 'new-password'}),
        help_text=gettext_lazy('Empty: the present secret stays.')
        if stays
        else gettext_lazy('At least 12 characters.'),
    )


def domain_is_free(component: ExternalComponent, before: Any) -> None:
    """A domain name that neither users nor another component have."""
    try:
        component.domain = prepare_domain(component.domain.strip())
    except InvalidJID:
        component.domain = component.domain.strip().lower()
    labels = component.domain.split('.')
    wrong = not all(label and label.replace('-', '').isalnum() and label.isascii() for label in labels)
    if wrong or labels[-1].isdigit():
        raise ValidationError({'domain': _('Enter a domain name, for example gateway.example.com.')})
    if error := names.taken(component.domain, component):
        raise ValidationError({'domain': error})


def create(actor: Actor, values: Mapping[str, Any]) -> ExternalComponent:
    """Add a component."""
    component = ExternalComponent(**{key: value for key, value in values.items() if key != 'shared_secret'})
    _set_secret(component, values.get('shared_secret') or '', '')
    component.save()
    return component


def update(actor: Actor, component: ExternalComponent, values: Mapping[str, Any]) -> ExternalComponent:
    """Change a component; without a new secret the present one stays."""
    present = ExternalComponent.objects.get(pk=component.pk).secret
    for key, value in values.items():
        if key != 'shared_secret':
            setattr(component, key, value)
    _set_secret(component, values.get('shared_secret') or '', present)
    component.save()
    return component


def _set_secret(component: ExternalComponent, given: str, present: str) -> None:
    if (given or not present) and len(given) < LEAST:
        raise ValidationError({'shared_secret': _('Enter at least %(count)d characters.') % {'count': LEAST}})
    component.secret = given or present


COMPONENTS = Page(
    name='external-components',
    console='admin',
    area='messaging',
    menu='Messaging > External Server Setup > External Components',
    title=gettext_lazy('External Components'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy(
        'Programs such as gateways that serve a domain of their own. They connect to Cisco XCP Router with the secret '
        'set here; a change is in force at once.'
    ),
    help=Help(
        when=gettext_lazy('When a gateway or robot should have a domain of its own beside the users.'),
        effect=gettext_lazy(
            'The program can connect at once; stanzas to its domain go to it. Deleting it ends the connection.'
        ),
    ),
    related=('messaging-settings', 'service-parameters'),
    model=ExternalComponent,
    columns=('domain', 'name'),
    find=('domain', 'name'),
    fieldsets=(Fieldset(gettext_lazy('External component'), ('domain', 'name', 'shared_secret')),),
    extra={'shared_secret': secret_field},
    rules=(domain_is_free,),
    create=create,
    update=update,
    copy_clear=('domain',),
    ordering=('domain',),
    configures=True,
    search=('domain', 'name'),
    sample=lambda n: {
        'domain': f'component-{n}.example.com', 'name': f'Gateway {n}', 'shared_secret': f'a-long-secret-{n}',
    },
    bad={'domain': ('', 'a b', '10.1.1.1'), 'shared_secret': ('short',)},
)  # fmt: skip
