"""Directories that users come from: LDAP System, Filter, Directory and Authentication (guide 2555-2876)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from impadmin.ucm.settings_models import MASK, FeatureGroupTemplate

ATTRIBUTE = RegexValidator(
    r'^([A-Za-z][A-Za-z0-9-]*|[0-9]+(\.[0-9]+)+)\Z', _('Enter the name of an LDAP attribute, for example mail.')
)
"""attributedescr of RFC 4512 2.5, without options."""
MOST_SERVERS = 3


class ServerType(models.TextChoices):
    """What software a directory is."""

    AD = 'ad', _('Microsoft Active Directory')
    AD_LDS = 'ad_lds', _('Microsoft Lightweight Directory Services')
    OPENLDAP = 'openldap', _('OpenLDAP')
    ORACLE = 'oracle', _('Oracle Directory Server, Sun ONE, iPlanet')


class UserIdAttribute(models.TextChoices):
    """Attributes that a user ID may come from (guide 1662-1668)."""

    ACCOUNT = 'sAMAccountName', 'sAMAccountName'
    PRINCIPAL = 'userPrincipalName', 'userPrincipalName'
    UID = 'uid', 'uid'
    MAIL = 'mail', 'mail'
    EMPLOYEE = 'employeeNumber', 'employeeNumber'
    TELEPHONE = 'telephoneNumber', 'telephoneNumber'


class LdapSystem(models.Model):
    """The switch of all synchronizations, and what holds for all directories (guide 2645-2663)."""

    enabled = models.BooleanField(
        _('Enable Synchronizing from LDAP Server'), default=False,
        help_text=_('Users may be imported. Off: nothing is synchronized and nobody is deleted.'),
    )  # fmt: skip
    server_type = models.CharField(
        _('LDAP Server Type'), max_length=10, choices=ServerType.choices, default=ServerType.AD,
        help_text=_('Stays as it is once there is an LDAP directory.'),
    )  # fmt: skip
    user_id_attribute = models.CharField(
        _('LDAP Attribute for User ID'), max_length=30, choices=UserIdAttribute.choices,
        default=UserIdAttribute.ACCOUNT,
        help_text=_('The same on every cluster. Stays as it is once there is an LDAP directory.'),
    )  # fmt: skip

    class Meta:
        db_table = 'ldap_system'
        verbose_name = _('LDAP System')


class LdapFilter(models.Model):
    """A filter that limits an import (guide 2665-2679)."""

    name = models.CharField(_('Filter Name'), max_length=50, unique=True, help_text=_('1 to 50 characters, used once.'))
    filter = models.TextField(
        _('Filter'), max_length=1024,
        help_text=_('At most 1,024 characters in parentheses, for example (&(objectClass=person)(department=Sales)).'),
    )  # fmt: skip

    class Meta:
        db_table = 'ldap_filter'
        verbose_name, verbose_name_plural = _('LDAP Filter'), _('LDAP Filters')

    def __str__(self) -> str:
        return self.name


def _port(label: Any) -> Any:
    return models.PositiveIntegerField(
        label, default=636, validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text=_('636 with TLS, 389 without; 3269 and 3268 are the Global Catalog of Active Directory.'),
    )  # fmt: skip


def _host(label: Any) -> Any:
    return models.CharField(
        label, max_length=255, blank=True,
        help_text=_('With TLS the certificate of the server must name it, and tomcat-trust have its authority.'),
    )  # fmt: skip


def _tls(label: Any) -> Any:
    return models.BooleanField(
        label, default=True, help_text=_('Without it passwords cross the network as they are.')
    )  # fmt: skip


class Asked(models.Model):
    """What every use of a directory has: who asks where, and up to three servers tried in their order."""

    manager_dn = models.CharField(
        _('LDAP Manager Distinguished Name'), max_length=500, blank=True,
        help_text=_('Who reads the directory; with Active Directory user@domain, too.'),
    )  # fmt: skip
    sealed_password = models.TextField(default='', editable=False)
    """Of the manager, see console/sealed.py."""
    search_base = models.CharField(
        _('LDAP User Search Base'), max_length=500, blank=True,
        help_text=_('For example ou=people,dc=example,dc=com.'),
    )  # fmt: skip
    host_1 = _host(_('Host Name or IP Address for Server 1'))
    port_1 = _port(_('LDAP Port for Server 1'))
    tls_1 = _tls(_('Use TLS for Server 1'))
    host_2 = _host(_('Host Name or IP Address for Server 2'))
    port_2 = _port(_('LDAP Port for Server 2'))
    tls_2 = _tls(_('Use TLS for Server 2'))
    host_3 = _host(_('Host Name or IP Address for Server 3'))
    port_3 = _port(_('LDAP Port for Server 3'))
    tls_3 = _tls(_('Use TLS for Server 3'))

    class Meta:
        abstract = True


class Unit(models.TextChoices):
    """Of the time between two synchronizations."""

    HOURS = 'hours', _('hours')
    DAYS = 'days', _('days')
    WEEKS = 'weeks', _('weeks')
    MONTHS = 'months', _('months')


def next_midnight() -> datetime:
    """The beginning of tomorrow, in the time zone of the server."""
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)


def _usual(for_ad: str, otherwise: str) -> str:
    kind = LdapSystem.objects.values_list('server_type', flat=True).first() or ServerType.AD
    return for_ad if kind in (ServerType.AD, ServerType.AD_LDS) else otherwise


def usual_department() -> str:
    """The attribute in which directories of the chosen type keep the department."""
    return _usual('department', 'departmentNumber')


FROM = _('LDAP attribute. Empty: not synchronized.')


def _attribute(label: Any, default: Any, help_text: Any = FROM) -> Any:
    return models.CharField(
        label, max_length=100, blank=True, default=default, validators=[ATTRIBUTE], help_text=help_text
    )


def _pool(label: Any) -> Any:
    return models.CharField(
        label, max_length=18, blank=True, validators=[RegexValidator(r'^[0-9]+\Z', _('Enter digits only.'))],
        help_text=_('Digits; both ends have as many.'),
    )  # fmt: skip


class LdapDirectory(Asked):
    """A synchronization agreement: one subtree of one directory (guide 2681-2738)."""

    name = models.CharField(
        _('LDAP Configuration Name'), max_length=40, unique=True, help_text=_('1 to 40 characters, used once.')
    )
    custom_filter = models.ForeignKey(
        LdapFilter, models.PROTECT, null=True, blank=True, related_name='directories',
        verbose_name=_('LDAP Custom Filter for Users'), help_text=_('Only users it matches are imported.'),
    )  # fmt: skip
    sync_once = models.BooleanField(
        _('Perform Sync Just Once'), default=False, help_text=_('At the time below, and never again by itself.')
    )
    interval = models.PositiveIntegerField(
        _('Perform a Re-sync Every'), default=7, validators=[MinValueValidator(1), MaxValueValidator(999)],
        help_text=_('1 to 999; at least 6 hours.'),
    )  # fmt: skip
    interval_unit = models.CharField(
        _('Unit'), max_length=10, choices=Unit.choices, default=Unit.DAYS, help_text=_('Of the number above.')
    )
    next_sync_at = models.DateTimeField(
        _('Next Re-sync Time'), null=True, blank=True, default=next_midnight,
        help_text=_('In the time zone of the server. Empty: only when somebody performs a full sync.'),
    )  # fmt: skip
    first_name_from = _attribute(_('First Name'), 'givenName')
    last_name_from = _attribute(_('Last Name'), 'sn', _('LDAP attribute. Entries without it are not imported.'))
    display_name_from = _attribute(_('Display Name'), 'displayName')
    mail_from = _attribute(_('Mail ID'), 'mail', _('LDAP attribute. No two users may have the same mail ID.'))
    department_from = _attribute(_('Department'), usual_department)
    telephone_number_from = _attribute(_('Telephone Number'), 'telephoneNumber')
    directory_uri_from = models.CharField(
        _('Directory URI'), max_length=40, blank=True, default='mail',
        choices=[('', _('None')), ('mail', 'mail'), ('msRTCSIP-PrimaryUserAddress', 'msRTCSIP-PrimaryUserAddress')],
        help_text=_('LDAP attribute. It is the IM address in the Directory URI scheme.'),
    )  # fmt: skip
    template = models.ForeignKey(
        FeatureGroupTemplate, models.PROTECT, null=True, blank=True, related_name='directories',
        verbose_name=_('Feature Group Template'),
        help_text=_('Users get its settings once, when they are imported. None: they are not enabled.'),
    )  # fmt: skip
    use_mask = models.BooleanField(
        _('Apply mask to synced telephone numbers to create a new line for inserted users'), default=False,
        help_text=_('The number becomes the primary extension unless somebody has it.'),
    )  # fmt: skip
    mask = models.CharField(
        _('Mask'), max_length=24, blank=True, validators=[MASK],
        help_text=_('Digits and X: X takes a digit from the end of the number. 11XX makes 1145 of 8889945.'),
    )  # fmt: skip
    use_pool = models.BooleanField(
        _('Assign new line from the pool list if one was not created based on a synced LDAP telephone number'),
        default=False, help_text=_('The lowest free number becomes the primary extension.'),
    )  # fmt: skip
    pool_start = _pool(_('DN Pool Start'))
    pool_end = _pool(_('DN Pool End'))
    synchronized_at = models.DateTimeField(_('Last Synchronization'), null=True, editable=False)
    """When the newest complete one ended; what decides on users cannot be changed after the first."""
    retry_at = models.DateTimeField(null=True, editable=False)
    """When to begin again because no server answered."""
    held_back = models.PositiveIntegerField(default=0, editable=False)
    """Users that the newest one did not find and left alone, because they were most."""

    class Meta:
        db_table = 'ldap_directory'
        verbose_name, verbose_name_plural = _('LDAP Directory'), _('LDAP Directories')

    def __str__(self) -> str:
        return self.name


class LdapSeen(models.Model):
    """A user whose entry a synchronization has met. Who is not among them at its end has vanished."""

    pk = models.CompositePrimaryKey('job_id', 'user_id')
    job_id = models.BigIntegerField()
    user_id = models.BigIntegerField()

    class Meta:
        db_table = 'ldap_seen'
        verbose_name_plural = _('Entries met by a synchronization')


class UserAuthentication(Asked):
    """How passwords of synchronized users are checked (guide 2790-2803)."""

    enabled = models.BooleanField(
        _('Use LDAP Authentication for End Users'), default=False,
        help_text=_('Users who come from a directory sign in with their password there, by SASL PLAIN under TLS.'),
    )  # fmt: skip

    class Meta:
        db_table = 'ldap_user_authentication'
        verbose_name = _('LDAP Authentication')
