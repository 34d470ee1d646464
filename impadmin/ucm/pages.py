"""User Management: End User, Assign Presence Users; Application User and what belongs to it: ``administration``."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Q, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.services import SYNC_AGENT
from impadmin.console.access import Right
from impadmin.console.page import Column, Command, Fieldset, Help, Page
from impadmin.console.registry import page_url, register
from impadmin.console.rehearsal import one_each
from impadmin.presence.models import PresenceSettings
from impadmin.ucm import (
    actions,
    administration,
    commands,
    defaults,
    flows,
    ldap_local,
    ldap_pages,
    phone_settings,
    redundancy,
    rules,
    user_settings,
)
from impadmin.ucm.forms import AssignForm, password_again_field, password_field
from impadmin.ucm.models import FOUND_BY, EndUser

ELIGIBLE = Q(active=True, home_cluster=True, im_enabled=True)
KEPT_BY_PROGRAMS = (
    'folded', 'credentials', 'roster_version', 'privacy_version', 'avatar', 'created_at', 'updated_at',
)  # fmt: skip
"""What no page shows of a user."""
AT_LIMIT = Q(contact_limit__isnull=False, contact_count__gte=F('contact_limit'))


def _users() -> models.QuerySet[EndUser]:
    limit = PresenceSettings.objects.order_by('pk').values('max_contacts')[:1]
    profile = defaults.default_service_profiles()[:1]
    users = EndUser.objects.defer(*KEPT_BY_PROGRAMS).select_related(
        'home_node', 'service_profile', 'user_profile', 'ldap_directory'
    )
    return users.annotate(contact_limit=Subquery(limit), default_service_profile=Subquery(profile))


def user_state(user: Any) -> tuple[str, str]:
    """(mark, word): what keeps the user from working, the gravest first."""
    if not (user.active and user.im_enabled and user.home_cluster):
        return 'off', _('Disabled')
    if not user.im_address:
        return 'bad', _('No IM address')
    if user.home_node_id is None:
        return 'warn', _('Not assigned')
    if hasattr(user, 'contact_limit'):
        limit = user.contact_limit
    else:
        limit = PresenceSettings.objects.values_list('max_contacts', flat=True).first()
    if limit is not None and user.contact_count >= limit:
        return 'warn', _('At contact limit')
    return 'ok', _('Enabled')


def _user_link(user: EndUser) -> tuple[str, str]:
    return page_url('end-users', 'edit', user.pk), user.user_id


END_USERS = Page(
    name='end-users',
    console='ucm',
    area='ucm',
    menu='User Management > End User',
    title=gettext_lazy('End Users'),
    right=Right.USERS,
    intro=gettext_lazy('The people who sign in with a client.'),
    help=Help(
        when=gettext_lazy('To add or find a person, change the name or password, or see why somebody cannot sign in.'),
        effect=gettext_lazy(
            'Changes reach the running service at once. A person who is deleted is signed out; contact list '
            'and stored messages go too.'
        ),
        guide='1954-1980, 9407-9424',
    ),
    related=('assign-presence-users', 'standard-configuration', 'presence-topology'),
    touches=one_each,
    personal=(
        'user_id',
        'first_name',
        'last_name',
        'display_name',
        'mail',
        'directory_uri',
        'department',
        'telephone_number',
        'extension',
    ),
    model=EndUser,
    queryset=_users,
    columns=(
        'user_id',
        'last_name',
        'first_name',
        'im_address',
        Column('state', gettext_lazy('Status'), value=user_state, kind='state'),
        'home_node',
        'contact_count',
        'watcher_count',
        'last_login_at',
        Column(
            'effective_service_profile',
            gettext_lazy('Effective Service Profile'),
            value=defaults.service_profile_of,
            default=False,
        ),
        Column('display_name', gettext_lazy('Display Name'), order_by='display_name', default=False),
        Column('mail', gettext_lazy('Mail ID'), order_by='mail', default=False),
        Column('directory_uri', gettext_lazy('Directory URI'), order_by='directory_uri', default=False),
        Column('department', gettext_lazy('Department'), order_by='department', default=False),
        Column('telephone_number', gettext_lazy('Telephone Number'), default=False),
        Column('extension', gettext_lazy('Primary Extension'), default=False),
        Column('ldap_status', gettext_lazy('User Status'), value=ldap_local.status, kind='state', default=False),
    ),
    find=(
        'user_id',
        'last_name',
        'first_name',
        'display_name',
        'im_address',
        'directory_uri',
        'mail',
        'department',
        'telephone_number',
        'extension',
        'home_node__name',
        'service_profile__name',
        'user_profile__name',
        'ldap_status',
        'ldap_directory__name',
    ),
    search=FOUND_BY,
    fieldsets=(
        Fieldset(
            gettext_lazy('User Information'),
            (
                'user_id',
                'password',
                'password_again',
                'first_name',
                'last_name',
                'display_name',
                'mail',
                'directory_uri',
                'department',
                'telephone_number',
                'extension',
                'active',
                'ldap_status',
                'ldap_directory',
            ),
        ),
        Fieldset(
            gettext_lazy('Service Settings'),
            (
                'home_cluster',
                'im_enabled',
                'service_profile',
                'effective_service_profile',
                'user_profile',
                'home_node',
                'im_address',
            ),
        ),
    ),
    read_only=(
        'effective_service_profile',
        'im_address',
        'ldap_status',
        'ldap_directory',
        'contact_count',
        'watcher_count',
        'last_login_at',
    ),
    extra={'password': password_field, 'password_again': password_again_field},
    rules=(
        rules.user_id_is_free,
        rules.user_id_is_an_address,
        rules.extension_is_free,
        rules.directory_uri_is_valid,
        rules.mail_is_valid,
        rules.im_address_is_unique,
        ldap_local.synchronized_fields_stay,
    ),
    fixed=ldap_local.from_directory,
    create=actions.create_user,
    update=actions.update_user,
    delete_many=actions.delete_users,
    apart=True,
    copy_clear=('user_id', 'mail', 'directory_uri', 'telephone_number', 'extension'),
    tabs=(
        ('not-assigned', gettext_lazy('Not assigned'), ELIGIBLE & Q(home_node=None)),
        ('contact-limit', gettext_lazy('At contact limit'), AT_LIMIT),
        ('no-address', gettext_lazy('No IM address'), Q(im_address=None)),
        ('disabled', gettext_lazy('Disabled'), ~ELIGIBLE),
        ('ldap-inactive', gettext_lazy('No longer in the directory'), Q(ldap_status='inactive')),
    ),
    ordering=('user_id',),
    panel='ucm/end_user_panel.html',
    commands=(user_settings.APPLY_TEMPLATE, ldap_local.CONVERT),
    sample=lambda n: {
        'user_id': f'jsmith{n}',
        'first_name': 'John',
        'last_name': 'Smith',
        'display_name': f'John Smith {n}',
        'mail': f'jsmith{n}@example.com',
        'directory_uri': f'john.smith{n}@example.com',
        'department': 'Sales',
        'telephone_number': f'+49 89 555-1{n}',
        'extension': f'1{n}',
        'password': 'a-good-password',
        'password_again': 'a-good-password',
    },
    bad={
        'user_id': ('', 'a/b', '"x"', 'x' * 133),
        'last_name': ('', 'x' * 65),
        'first_name': ('x' * 65,),
        'mail': ('nobody', 'a@b@c'),
        'directory_uri': ('nobody', '@example.com', 'a@b_c.com', 'a@'),
        'department': ('x' * 65,),
        'extension': ('1a', '+49', '1' * 25),
    },
)
ASSIGN = Page(
    name='assign-presence-users',
    works_through=(SYNC_AGENT,),
    console='ucm',
    area='ucm',
    menu='User Management > Assign Presence Users',
    title=gettext_lazy('Assign Presence Users'),
    right=Right.USERS,
    intro=gettext_lazy('Find users, select them, then choose the node that serves them.'),
    help=Help(
        when=gettext_lazy('When users should be served by another node, or were not assigned by themselves.'),
        effect=gettext_lazy(
            'Clients of a user who moves are sent to the new node; what is stored for the user moves along.'
        ),
        guide='863, 2454-2465',
    ),
    related=('presence-topology', 'end-users', 'enterprise-parameters'),
    touches=one_each,
    model=EndUser,
    queryset=_users,
    columns=(
        Column('user_id', gettext_lazy('User ID'), value=_user_link, order_by='user_id', kind='link'),
        'last_name',
        'first_name',
        'home_node',
        Column('state', gettext_lazy('Status'), value=user_state, kind='state'),
        'home_cluster',
        'im_enabled',
        'department',
    ),
    find=('user_id', 'last_name', 'first_name', 'home_node__name', 'department', 'directory_uri'),
    verbs=(),
    tabs=(
        ('not-assigned', gettext_lazy('Not assigned'), ELIGIBLE & Q(home_node=None)),
        ('assigned', gettext_lazy('Assigned'), Q(home_node__isnull=False)),
    ),
    ordering=('user_id',),
    commands=(
        Command(
            'assign',
            gettext_lazy('Assign Selected Users'),
            commands.assign_selected,
            scope='selection',
            form=AssignForm,
            confirm=commands.assign_consequence,
        ),
    ),
)
register(
    redundancy.GROUPS,
    END_USERS,
    ASSIGN,
    *user_settings.PAGES,
    *phone_settings.PAGES,
    flows.USER_SETTINGS,
    *administration.PAGES,
    *ldap_pages.PAGES,
)
