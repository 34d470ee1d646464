"""Presence > Inter-Domain Federation > XMPP Federation: Settings, Policy, Policy Domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.actions import Actor
from impadmin.console.page import BasePage, Command, Fieldset, Help, Page, Result, SettingsPage
from impadmin.presence import inventory
from impadmin.presence.models import (
    Domain,
    XmppFederationDomain,
    XmppFederationPolicy,
    XmppFederationSettings,
    new_secret,
)
from impadmin.presence.rules import name_error

MENU = 'Presence > Inter-Domain Federation > XMPP Federation'
LEAST = 20
"""Characters of a dialback secret that somebody chose."""


def something_proves_domains(settings: XmppFederationSettings, before: Any) -> None:
    """Without dialback only certificates are left, and these need TLS."""
    if settings.dialback or not settings.enabled:
        return
    if settings.security == 'none':
        raise ValidationError(
            {'dialback': _('Without TLS only dialback can prove the domain of a server. Leave it on, or use TLS.')}
        )
    if not settings.external_in or not settings.external_out:
        raise ValidationError(
            {'dialback': _('Without dialback SASL EXTERNAL must be on for incoming and outbound connections.')}
        )


def certificates_need_tls(settings: XmppFederationSettings, before: Any) -> None:
    """A required certificate is never seen without TLS."""
    if settings.require_certificates and settings.security == 'none':
        raise ValidationError(
            {'require_certificates': _('Certificates are shown with TLS only. Choose TLS Optional or TLS Required.')}
        )


def domain_is_remote(entry: XmppFederationDomain, before: Any) -> None:
    """A name in lower case, not one of ours."""
    entry.domain = entry.domain.strip().lower()
    name = entry.domain.removeprefix('*.')
    if error := name_error(name):
        raise ValidationError({'domain': error})
    own = inventory.advanced().default_domain.lower()
    if entry.domain == own or Domain.objects.filter(key=entry.domain).exists():
        raise ValidationError({'domain': _('%(name)s is a domain of this cluster.') % {'name': entry.domain}})
    if XmppFederationDomain.objects.filter(domain=entry.domain).exclude(pk=entry.pk).exists():
        raise ValidationError({'domain': _('The domain %(name)s is listed already.') % {'name': entry.domain}})


class SecretForm(forms.Form):
    """A new dialback secret."""

    secret = forms.CharField(
        label=gettext_lazy('Dialback secret'),
        required=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={'autocomplete': 'new-password'}),
        help_text=gettext_lazy('At least 20 characters. Empty: a random one is made.'),
    )


def set_secret(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Replace the secret all nodes of the cluster share."""
    secret = (data.get('secret') or '').strip()
    if secret and len(secret) < LEAST:
        raise ValidationError({'secret': _('Enter at least %(count)d characters.') % {'count': LEAST}})
    row = XmppFederationSettings.objects.select_for_update().get_or_create(pk=1)[0]
    row.secret = secret or new_secret()
    row.secret_version += 1
    row.save()
    return Result(_('The dialback secret is saved.'))


SETTINGS = SettingsPage(
    name='xmpp-federation-settings',
    console='admin',
    area='presence',
    menu=f'{MENU} > Settings',
    title=gettext_lazy('XMPP Federation Settings'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('How this cluster exchanges availability and messages with XMPP servers of other domains.'),
    help=Help(
        when=gettext_lazy(
            'When people here and people with addresses at other organisations should write to each other.'
        ),
        effect=gettext_lazy(
            'Cisco XCP XMPP Federation Connection Manager accepts and opens connections to other domains by '
            'these rules.'
        ),
        guide='12541',
    ),
    related=('xmpp-federation-policy', 'xmpp-federation-domains', 'control-center'),
    model=XmppFederationSettings,
    fieldsets=(
        Fieldset(gettext_lazy('Node Status'), ('enabled',)),
        Fieldset(gettext_lazy('Security'), ('security', 'require_certificates', 'external_in', 'external_out')),
        Fieldset(gettext_lazy('Dialback'), ('dialback',)),
    ),
    rules=(something_proves_domains, certificates_need_tls),
    panel='presence/federation_nodes.html',
    commands=(Command('secret', gettext_lazy('Set dialback secret'), set_secret, scope='page', form=SecretForm),),
)
POLICY = SettingsPage(
    name='xmpp-federation-policy',
    console='admin',
    area='presence',
    menu=f'{MENU} > Policy',
    title=gettext_lazy('XMPP Federation Policy'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Whether every other domain may be reached, or only those listed.'),
    help=Help(
        when=gettext_lazy('To refuse single domains, or to allow only partners.'),
        effect=gettext_lazy(
            'Stanzas from and to a refused domain are answered with an error. What is stored from that domain stays.'
        ),
        guide='12541',
    ),
    related=('xmpp-federation-domains', 'xmpp-federation-settings'),
    model=XmppFederationPolicy,
    fieldsets=(Fieldset(gettext_lazy('Policy'), ('policy',)),),
)
DOMAINS = Page(
    name='xmpp-federation-domains',
    console='admin',
    area='presence',
    menu=f'{MENU} > Policy Domains',
    title=gettext_lazy('Policy Domains'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('The exceptions to the policy mode: refused in the mode Allow, allowed in the mode Deny.'),
    help=Help(
        when=gettext_lazy('To name the domains that are treated otherwise than the policy mode says.'),
        effect=gettext_lazy('An entry is about the domain itself, or with *. in front about every domain below it.'),
        guide='12541',
    ),
    related=('xmpp-federation-policy', 'xmpp-federation-settings'),
    model=XmppFederationDomain,
    columns=('domain', 'direction', 'comment'),
    find=('domain', 'direction', 'comment'),
    fieldsets=(Fieldset(gettext_lazy('Policy domain'), ('domain', 'direction', 'comment')),),
    rules=(domain_is_remote,),
    copy_clear=('domain',),
    ordering=('domain',),
    configures=True,
    search=('domain', 'comment'),
    sample=lambda n: {'domain': f'partner-{n}.example.net', 'direction': 'both', 'comment': f'Partner {n}'},
    bad={'domain': ('', 'a_b.com', '*.', '10.1.1.1'), 'direction': ('sideways',)},
)
PAGES: tuple[BasePage, ...] = (SETTINGS, POLICY, DOMAINS)
