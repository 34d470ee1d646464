"""System > LDAP: LDAP System, LDAP Filter, LDAP Directory, LDAP Authentication (guide 2555-2876)."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from engine.contract.services import AUTHENTICATION, DIRSYNC
from impadmin.console.access import Right
from impadmin.console.page import Column, Command, Fieldset, Help, Page, SettingsPage
from impadmin.ucm import ldap_commands as commands
from impadmin.ucm import ldap_rules as rules
from impadmin.ucm import ldap_sync
from impadmin.ucm.forms import password_again_field
from impadmin.ucm.ldap_models import LdapDirectory, LdapFilter, LdapSystem, UserAuthentication

MANAGER = gettext_lazy('LDAP Manager')
SERVERS = Fieldset(
    gettext_lazy('LDAP Server Information'),
    ('host_1', 'port_1', 'tls_1', 'host_2', 'port_2', 'tls_2', 'host_3', 'port_3', 'tls_3'),
    gettext_lazy('Tried in this order.'),
)
SYSTEM = SettingsPage(
    name='ldap-system',
    works_through=(DIRSYNC,),
    console='ucm',
    area='ucm',
    menu='System > LDAP > LDAP System',
    title=gettext_lazy('LDAP System'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('The switch of all synchronizations, and what holds for all LDAP directories.'),
    help=Help(
        when=gettext_lazy('First, before LDAP directories are added.'),
        effect=gettext_lazy(
            'Switched off, schedules rest, Perform Full Sync Now is refused, and users who left the directory are '
            'not deleted.'
        ),
        guide='2645-2663',
    ),
    related=('ldap-directories', 'ldap-filters', 'ldap-authentication'),
    order=10,
    model=LdapSystem,
    fieldsets=(Fieldset(gettext_lazy('LDAP System Information'), ('enabled', 'server_type', 'user_id_attribute')),),
    rules=(rules.attribute_fits_the_type, rules.schema_stays),
    update=commands.update_system,
    bad={'server_type': ('fax',), 'user_id_attribute': ('cn',)},
)
FILTERS = Page(
    name='ldap-filters',
    console='ucm',
    area='ucm',
    menu='System > LDAP > LDAP Filter',
    title=gettext_lazy('LDAP Filters'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Filters that limit which users an LDAP directory imports.'),
    help=Help(
        when=gettext_lazy('When one LDAP directory should import only some of the users below its search base.'),
        effect=gettext_lazy('None by itself: an LDAP directory names it, and adds it to the filter of its type.'),
        guide='2665-2679',
    ),
    related=('ldap-directories', 'ldap-system'),
    order=11,
    model=LdapFilter,
    columns=('name', 'filter'),
    find=('name', 'filter'),
    search=('name',),
    fieldsets=(Fieldset(gettext_lazy('LDAP Filter Information'), ('name', 'filter')),),
    rules=(rules.filter_is_right,),
    copy_clear=('name',),
    ordering=('name',),
    sample=lambda n: {'name': f'Sales {n}', 'filter': f'(&(objectClass=person)(department=Sales {n}))'},
    bad={
        'name': ('', 'x' * 51),
        'filter': ('', 'cn=*', '(cn=a', '(cn=a)(cn=b)', '(cn=a\\zz)', '(&cn=a)', f'(cn={"x" * 1024})'),
    },
)


def _schedule(row: LdapDirectory) -> str:
    if row.next_sync_at is None:
        return _('By hand')
    if row.sync_once:
        return _('Once')
    return _('Every %(number)d %(unit)s') % {'number': row.interval, 'unit': row.get_interval_unit_display()}


def _sync_means(objects: Any) -> str:
    count = commands.users_of(objects)
    return ngettext(
        'Users are added and updated. Of the %(count)d imported user, who is not found any more cannot sign in.',
        'Users are added and updated. Of the %(count)d imported users, those not found any more cannot sign in.',
        count,
    ) % {'count': count}


DIRECTORIES = Page(
    name='ldap-directories',
    works_through=(DIRSYNC,),
    console='ucm',
    area='ucm',
    menu='System > LDAP > LDAP Directory',
    title=gettext_lazy('LDAP Directories'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Where users are imported from, on which schedule, and with which settings.'),
    help=Help(
        when=gettext_lazy(
            'After LDAP System, filters and the feature group template. Use several directories for several kinds of '
            'users.'
        ),
        effect=gettext_lazy(
            'Each synchronization adds users who are new, updates those who changed and makes those inactive who are '
            'gone. These cannot sign in, and are deleted 24 hours later, with their contact lists, unless they come '
            'back. Before more than half of all users become inactive, somebody must agree. After the first '
            'synchronization search base, filter, fields, template and numbers stay as they are. For TLS upload the '
            'certificate of the authority that signs those of the servers to tomcat-trust.'
        ),
        guide='2555-2580, 2681-2738',
    ),
    related=('ldap-system', 'end-users', 'certificates'),
    order=12,
    touches=commands.users_of,
    model=LdapDirectory,
    columns=(
        'name',
        'search_base',
        'custom_filter',
        'template',
        Column('state', gettext_lazy('Status'), value=ldap_sync.state, kind='state'),
        'synchronized_at',
        'next_sync_at',
        Column('schedule', gettext_lazy('Schedule'), value=_schedule, default=False),
    ),
    queryset=lambda: LdapDirectory.objects.select_related('custom_filter', 'template'),
    find=('name', 'search_base', 'custom_filter__name', 'template__name'),
    search=('name', 'search_base'),
    fieldsets=(
        Fieldset(
            gettext_lazy('LDAP Directory Information'),
            ('name', 'manager_dn', 'password', 'password_again', 'search_base', 'custom_filter'),
        ),
        Fieldset(
            gettext_lazy('LDAP Directory Synchronization Schedule'),
            ('sync_once', 'interval', 'interval_unit', 'next_sync_at', 'synchronized_at'),
        ),
        Fieldset(
            gettext_lazy('Standard User Fields To Be Synchronized'),
            (
                'first_name_from',
                'last_name_from',
                'display_name_from',
                'mail_from',
                'department_from',
                'telephone_number_from',
                'directory_uri_from',
            ),
            gettext_lazy('The user ID comes from the attribute chosen on LDAP System.'),
        ),
        Fieldset(
            gettext_lazy('Group Information'),
            ('template', 'use_mask', 'mask', 'use_pool', 'pool_start', 'pool_end'),
        ),
        SERVERS,
    ),
    read_only=('synchronized_at',),
    extra={'password': commands.manager_password_field, 'password_again': password_again_field},
    rules=(
        rules.not_too_many,
        rules.directory_is_complete,
        *rules.SERVER_RULES,
        rules.schedule_is_right,
        rules.lines_are_right,
        rules.locked_after_first_sync,
    ),
    create=commands.create,
    update=commands.update,
    delete=commands.delete,
    undeletable=commands.cannot_delete,
    copy_clear=('name',),
    bulk=('sync_once', 'interval', 'interval_unit', 'next_sync_at'),
    ordering=('name',),
    commands=(
        Command('test', gettext_lazy('Test Connection'), commands.test, at_once=True),
        Command(
            'full-sync',
            gettext_lazy('Perform Full Sync Now'),
            commands.full_sync,
            form=commands.SyncForm,
            confirm=_sync_means,
            when=commands.cannot_sync,
            consents=('deactivate',),
        ),
        Command(
            'cancel-sync',
            gettext_lazy('Cancel Sync Process'),
            commands.cancel_sync,
            when=commands.cannot_cancel,
        ),
    ),
    panel='ucm/ldap_runs.html',
    sample=lambda n: {
        'name': f'Site {n}',
        'manager_dn': 'cn=manager,dc=example,dc=com',
        'password': f'a manager {n}',
        'password_again': f'a manager {n}',
        'search_base': f'ou=site{n},dc=example,dc=com',
        'interval': 7,
        'interval_unit': 'days',
        'next_sync_at': f'203{n % 10}-01-05T02:00:00Z',
        'first_name_from': 'givenName',
        'last_name_from': 'sn',
        'display_name_from': 'cn',
        'mail_from': 'mail',
        'department_from': 'ou',
        'telephone_number_from': 'telephoneNumber',
        'directory_uri_from': 'mail',
        'host_1': 'ldap.example.com',
        'port_1': 636,
        'tls_1': True,
        'port_2': 636,
        'port_3': 636,
    },
    bad={
        'name': ('', 'x' * 41),
        'manager_dn': ('', 'nobody'),
        'search_base': ('', 'here'),
        'interval': (0, 1000),
        'interval_unit': ('years',),
        'last_name_from': ('',),
        'mail_from': ('two words',),
        'directory_uri_from': ('cn',),
        'mask': ('11', '+11XX', '11xx'),
        'pool_start': ('1a',),
        'host_1': ('', 'bad host!'),
        'host_3': ('ldap9.example.com',),
        'port_1': (0, 65536),
    },
)
USER_AUTHENTICATION = SettingsPage(
    name='ldap-authentication',
    works_through=(AUTHENTICATION,),
    console='ucm',
    area='ucm',
    menu='System > LDAP > LDAP Authentication',
    title=gettext_lazy('LDAP Authentication'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Lets the users of your directory sign in with their password there.'),
    help=Help(
        when=gettext_lazy('When passwords of users are kept in one place.'),
        effect=gettext_lazy(
            'From the next sign-in on. Clients are offered SASL PLAIN under TLS and not SCRAM, since only the '
            'directory can check the password. While no server answers, users of the directory cannot sign in; a '
            'password set here does not count for them. Local users keep theirs.'
        ),
        guide='2579, 2790-2803',
    ),
    related=('ldap-system', 'ldap-directories', 'ldap-administrators'),
    order=14,
    model=UserAuthentication,
    fieldsets=(
        Fieldset(gettext_lazy('LDAP Authentication for End Users'), ('enabled',)),
        Fieldset(MANAGER, ('manager_dn', 'search_base'), gettext_lazy('Set its password with the command above.')),
        SERVERS,
    ),
    rules=(*rules.SERVER_RULES, rules.authentication_is_complete),
    update=commands.update_authentication,
    commands=(
        Command('test', gettext_lazy('Test Connection'), commands.test, scope='page', at_once=True),
        Command(
            'set-password',
            gettext_lazy('Set Manager Password'),
            commands.set_password,
            scope='page',
            form=commands.PasswordForm,
        ),
    ),
    bad={
        'enabled': ('on',),
        'manager_dn': ('nobody',),
        'search_base': ('here',),
        'host_1': ('bad host!',),
        'host_2': ('ldap9.example.com',),
        'port_1': (0, 65536),
    },
)
PAGES = (SYSTEM, FILTERS, DIRECTORIES, USER_AUTHENTICATION)
