"""Presence > Domains and Presence > Settings."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Lower
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.page import Column, Command, Fieldset, Help, Page, SettingsPage, Text, ViewPage
from impadmin.console.registry import register
from impadmin.presence import actions, federation, gateways, peers, rules, views
from impadmin.presence.forms import CONFIRMATIONS, ChangeForm
from impadmin.presence.models import AdvancedSettings, Domain, PeerDomain, PresenceSettings
from impadmin.ucm.models import EndUser


def _domains() -> models.QuerySet[Domain]:
    default = AdvancedSettings.objects.order_by().values(key=Lower('default_domain'))[:1]
    there = PeerDomain.objects.filter(key=OuterRef('key')).order_by()
    users = there.values('key').annotate(all=Sum('users')).values('all')
    return Domain.objects.annotate(
        default_key=Subquery(default),
        peer_user_count=Coalesce(Subquery(users), 0),
        configuring=ArraySubquery(there.filter(configured=True).order_by('peer__address').values('peer__address')),
    )


def _domain_type(domain: Any) -> str:
    return _('System Managed') if domain.user_count or domain.peer_user_count else _('Administrator Managed')


def _in_use(domain: Any) -> str:
    if domain.user_count:
        return _('local')
    return _('peer only') if domain.peer_user_count else _('none')


def _configuring(domain: Any) -> str:
    return _(', ').join(domain.configuring) or '–'


def _limit_impact(before: PresenceSettings, after: PresenceSettings) -> list[tuple[Text, int]]:
    """Users who are beyond a new limit; nothing is deleted, but they cannot add anyone."""
    found: list[tuple[Text, int]] = []
    for field, column, text in (
        ('max_contacts', 'contact_count', _('users at or above the new contact list limit cannot add contacts')),
        ('max_watchers', 'watcher_count', _('users at or above the new watcher limit cannot be watched by more users')),
    ):
        limit = getattr(after, field)
        if limit is not None and limit != getattr(before, field):
            found.append((text, EndUser.objects.filter(**{f'{column}__gte': limit}).count()))
    if before.availability_sharing and not after.availability_sharing:
        everybody = EndUser.objects.filter(im_enabled=True, active=True, home_node__isnull=False).count()
        found.append((_('users no longer see the availability of others'), everybody))
    return found


DOMAINS = Page(
    name='domains',
    console='admin',
    area='presence',
    menu='Presence > Domains',
    title=gettext_lazy('Domains'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy(
        'IM address domains. Those in which users have addresses are added by themselves. All are hosted but those of '
        'peer clusters only.'
    ),
    help=Help(
        when=gettext_lazy('Before users get addresses in a further domain, and to see which domains are in use.'),
        effect=gettext_lazy(
            'A domain of this cluster is hosted: clients may sign in to it, and other servers reach it. Removing '
            'one ends that. A domain that only peer clusters have is theirs to change.'
        ),
        guide='1135-1146, 1336-1390',
    ),
    related=('advanced-configuration', 'end-users'),
    touches=lambda domains: sum(domain.user_count for domain in domains),
    model=Domain,
    queryset=_domains,
    columns=(
        Column('name', gettext_lazy('Domain'), order_by='name'),
        Column('type', gettext_lazy('Type'), value=_domain_type),
        Column('configured', gettext_lazy('Configured on local cluster'), order_by='configured', kind='bool'),
        Column('configuring', gettext_lazy('Configured on peer clusters'), value=_configuring),
        Column('in_use', gettext_lazy('In use'), value=_in_use, order_by='user_count'),
        Column('user_count', gettext_lazy('Users'), order_by='user_count', kind='number'),
    ),
    find=('name',),
    fieldsets=(Fieldset(gettext_lazy('Domain'), ('name',)),),
    read_only=('configured', 'user_count'),
    verbs=('add', 'edit', 'delete'),
    rules=(rules.domain_name_is_valid, rules.domain_is_unique, rules.domain_is_for_users),
    create=actions.create_domain,
    update=actions.update_domain,
    delete=actions.delete_domain,
    locked=actions.kept,
    undeletable=actions.kept,
    tabs=(
        ('administrator-managed', gettext_lazy('Administrator Managed'), Q(user_count=0, peer_user_count=0)),
        ('system-managed', gettext_lazy('System Managed'), Q(user_count__gt=0) | Q(peer_user_count__gt=0)),
        ('peers', gettext_lazy('Of peer clusters only'), Q(local=False)),
    ),
    ordering=('name',),
    commands=(Command('audit', gettext_lazy('Run audit now'), actions.run_audit, scope='page'),),
    configures=True,
    sample=lambda n: {'name': f'sales-{n}.example.com'},
    bad={'name': ('', 'Abc.1om', '-a.com', 'a.-b.com', 'a_b.com', 'a b.com', '10.1.1.1', 'exämple.com', 'x' * 256)},
)
STANDARD = SettingsPage(
    name='standard-configuration',
    console='admin',
    area='presence',
    menu='Presence > Settings > Standard Configuration',
    title=gettext_lazy('Standard Configuration'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Who sees the availability of whom, and how long contact and watcher lists may get.'),
    help=Help(
        when=gettext_lazy(
            'To switch availability off for everybody, to let people see each other without asking, and before '
            'an import of contact lists.'
        ),
        effect=gettext_lazy('A lower limit deletes nothing: users above it keep their contacts but cannot add more.'),
        guide='5496-5500, 5552-5556, 12530',
    ),
    related=('advanced-configuration', 'control-center', 'contact-list-update'),
    model=PresenceSettings,
    fieldsets=(
        Fieldset(gettext_lazy('Availability'), ('availability_sharing', 'auto_approve')),
        Fieldset(
            gettext_lazy('Contact lists'),
            ('max_contacts', 'max_watchers'),
            gettext_lazy('Raise the limits, or choose No Limit, before contact lists are imported.'),
        ),
        Fieldset(gettext_lazy('Ad hoc presence subscriptions'), ('adhoc_subscriptions', 'adhoc_max', 'adhoc_ttl_s')),
    ),
    impact=_limit_impact,
    panel='presence/limits.html',
    bad={
        'max_contacts': (0, 10001, 'many'),
        'max_watchers': (0, 10001),
        'adhoc_max': (-1, 1_000_001),
        'adhoc_ttl_s': (29, 3601),
    },
)
ADVANCED = ViewPage(
    name='advanced-configuration',
    console='admin',
    area='presence',
    menu='Presence > Settings > Advanced Configuration',
    title=gettext_lazy('Advanced Configuration'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('The default domain and how the IM address of every user is formed, for the whole cluster.'),
    help=Help(
        when=gettext_lazy(
            'Once, before the first users get addresses; later only when the organisation changes its domain.'
        ),
        effect=gettext_lazy(
            'Every IM address is made anew in a job. Contact lists and what is stored for users follow the new '
            'addresses.'
        ),
        guide='1294-1332, 1647-1702, 1810-1880',
    ),
    related=('domains', 'presence-topology', 'end-users'),
    view=views.advanced_configuration,
    api=views.advanced_api,
    commands=(
        Command(
            'change',
            gettext_lazy('Change default domain or scheme'),
            actions.start_change,
            scope='page',
            form=ChangeForm,
            touches=actions.addresses_changed,
            danger=True,
            consents=CONFIRMATIONS,
            panel='presence/without_address.html',
        ),
        Command('retry', gettext_lazy('Retry'), actions.retry_change, scope='page'),
        Command('cancel', gettext_lazy('Cancel'), actions.cancel_change, scope='page', danger=True),
    ),
)
register(DOMAINS, STANDARD, ADVANCED, peers.PEERS, peers.LOCAL_CLUSTER, gateways.GATEWAYS, *federation.PAGES)
