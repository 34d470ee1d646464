"""The Unified CM side: end users and their contact lists."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower, Now, Upper
from django.utils.translation import gettext_lazy as _

from impadmin.console.folding import Folded
from impadmin.ucm.ldap_models import LdapDirectory
from impadmin.ucm.ldap_models import LdapFilter as LdapFilter
from impadmin.ucm.ldap_models import LdapSeen as LdapSeen
from impadmin.ucm.ldap_models import LdapSystem as LdapSystem
from impadmin.ucm.ldap_models import UserAuthentication as UserAuthentication
from impadmin.ucm.settings_models import SERVICE_PROFILE_HELP, USER_PROFILE_HELP, ServiceProfile, UserProfile
from impadmin.ucm.settings_models import FeatureGroupTemplate as FeatureGroupTemplate
from impadmin.ucm.settings_models import UcService as UcService
from impadmin.ucm.settings_models import UniversalDeviceTemplate as UniversalDeviceTemplate
from impadmin.ucm.settings_models import UniversalLineTemplate as UniversalLineTemplate

FOUND_BY = (
    'user_id', 'last_name', 'first_name', 'display_name', 'im_address', 'mail', 'directory_uri', 'department',
)  # fmt: skip
"""What people look for users by; in ``EndUser.folded``."""


class LdapStatus(models.TextChoices):
    """Where a user comes from (guide 2842-2854)."""

    LOCAL = 'local', _('Enabled Local User')
    CONVERTED = 'converted', _('Enabled Local User, converted')
    ACTIVE = 'active', _('Active LDAP Synchronized User')
    INACTIVE = 'inactive', _('Inactive LDAP Synchronized User')


PLAIN_URI = r'^(?!.{64})[A-Za-z0-9._+-]+@(?:[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*[.])+[A-Za-z]+$'
ODD_URI = ~models.Q(directory_uri__regex=PLAIN_URI)
"""A Directory URI that may be wrong: System Troubleshooter looks at these one by one, and finds them by an index."""


class EndUser(models.Model):
    """An end user. ``im_address`` is derived (scheme, default domain) by the actions, never typed."""

    user_id = models.CharField(
        _('User ID'), max_length=132, unique=True,
        validators=[RegexValidator(r'^[^\s"&\'/:<>][^"&\'/:<>]*$', _('Do not use " & \' / : < > in a user ID.'))],
        help_text=_('1 to 132 characters. Forms the IM address in the UserID@[Default_Domain] scheme.'),
    )  # fmt: skip
    first_name = models.CharField(_('First Name'), max_length=64, blank=True, help_text=_('At most 64 characters.'))
    last_name = models.CharField(_('Last Name'), max_length=64, help_text=_('1 to 64 characters.'))
    display_name = models.CharField(
        _('Display Name'), max_length=128, blank=True, help_text=_('At most 128 characters.')
    )
    mail = models.CharField(_('Mail ID'), max_length=255, blank=True, help_text=_('E-mail address of the user.'))
    directory_uri = models.CharField(
        _('Directory URI'), max_length=255, blank=True,
        help_text=_('user@domain. It is the IM address in the Directory URI scheme.'),
    )  # fmt: skip
    department = models.CharField(_('Department'), max_length=64, blank=True, help_text=_('At most 64 characters.'))
    telephone_number = models.CharField(
        _('Telephone Number'),
        max_length=64,
        blank=True,
        default='',
        db_default='',
        help_text=_('At most 64 characters.'),
    )
    extension = models.CharField(
        _('Primary Extension'), max_length=24, blank=True, default='', db_default='',
        validators=[RegexValidator(r'^[0-9]+\Z', _('Enter digits only.'))],
        help_text=_('At most 24 digits, no two users the same. Devices of the user get it.'),
    )  # fmt: skip
    home_cluster = models.BooleanField(
        _('Home Cluster'), default=True, help_text=_('This cluster is the home cluster of the user.')
    )
    im_enabled = models.BooleanField(
        _('Enable User for Unified CM IM and Presence'), default=True,
        help_text=_('Only enabled users can sign in and exchange instant messages and availability.'),
    )  # fmt: skip
    active = models.BooleanField(_('Active'), default=True, help_text=_('Users who are not active cannot sign in.'))
    home_node = models.ForeignKey(
        'system.Node', models.SET_NULL, null=True, blank=True, related_name='users', verbose_name=_('Home Node'),
        help_text=_('The node that serves the user. Empty: not assigned, cannot sign in.'),
    )  # fmt: skip
    service_profile = models.ForeignKey(
        ServiceProfile, models.PROTECT, null=True, blank=True, related_name='users',
        verbose_name=_('Service Profile'), help_text=SERVICE_PROFILE_HELP,
    )  # fmt: skip
    user_profile = models.ForeignKey(
        UserProfile, models.PROTECT, null=True, blank=True, related_name='users',
        verbose_name=_('User Profile'), help_text=USER_PROFILE_HELP,
    )  # fmt: skip
    ldap_status = models.CharField(
        _('User Status'), max_length=10, choices=LdapStatus.choices, default=LdapStatus.LOCAL,
        db_default=LdapStatus.LOCAL, editable=False,
    )  # fmt: skip
    """Who is inactive is no longer in the directory, cannot sign in, and is deleted a day after ``ldap_missing_at``."""
    ldap_directory = models.ForeignKey(
        LdapDirectory, models.SET_NULL, null=True, related_name='users', verbose_name=_('LDAP Directory'),
        editable=False,
    )  # fmt: skip
    ldap_guid = models.CharField(max_length=64, default='', db_default='', editable=False)
    """What tells the entry from all others for good: objectGUID, entryUUID or nsUniqueId in hexadecimal digits."""
    ldap_missing_at = models.DateTimeField(null=True, editable=False)
    im_address = models.CharField(_('IM Address'), max_length=400, null=True, unique=True, editable=False)
    credentials: models.JSONField[Any] = models.JSONField(default=dict, editable=False)
    """SCRAM verifiers, see engine.contract.credentials."""
    contact_count = models.IntegerField(_('Contacts'), default=0, editable=False)
    """Distinct contacts the user added; kept exact by every writer of roster_item in the same transaction."""
    watcher_count = models.IntegerField(_('Watchers'), default=0, editable=False)
    """Distinct addresses with a subscription to the user (from or both)."""
    roster_version = models.BigIntegerField(default=0, editable=False)
    """Raised by every write to the contact list. Its row lock serialises writers of one list."""
    privacy_version = models.BigIntegerField(default=0, db_default=0, editable=False)
    """Raised by every write to the privacy lists. 0: the user never had one, nobody need look for them."""
    avatar = models.CharField(max_length=40, default='', db_default='', editable=False)
    """SHA-1 of the picture in the vCard, in hexadecimal digits (XEP-0153); '' without one. Written by the engine."""
    last_login_at = models.DateTimeField(_('Last sign-in'), null=True, editable=False)
    created_at = models.DateTimeField(_('Created'), auto_now_add=True)
    updated_at = models.DateTimeField(_('Changed'), auto_now=True, db_index=True)
    folded = models.GeneratedField(expression=Folded(*FOUND_BY), output_field=models.TextField(), db_persist=True)
    """What searches read instead of eight columns; PostgreSQL keeps it."""

    class Meta:
        db_table = 'end_user'
        verbose_name = _('End User')
        verbose_name_plural = _('End Users')
        constraints = [
            models.UniqueConstraint(
                fields=['extension'], name='end_user_one_extension', condition=~models.Q(extension=''),
                violation_error_message=_('Another user has this extension. Choose another.'),
            )
        ]  # fmt: skip
        indexes = [
            # users of each node are counted from it alone (impadmin/system/assigned.py)
            models.Index(fields=['home_node', 'im_enabled', 'active', 'home_cluster'], name='end_user_standing'),
            models.Index(fields=['last_name', 'first_name']),
            models.Index(fields=['ldap_guid'], name='end_user_ldap_guid', condition=~models.Q(ldap_guid='')),
            models.Index(
                fields=['ldap_missing_at'], name='end_user_ldap_gone', condition=models.Q(ldap_missing_at__isnull=False)
            ),
            models.Index(Upper('user_id'), name='end_user_folded_id'),  # is the user ID free, whatever its case?
            # lists sorted by these; who shares a value with whom: INCLUDE lets PostgreSQL answer from the index alone
            models.Index(Lower('user_id'), 'id', include=['user_id'], name='end_user_by_user_id'),
            models.Index(Lower('last_name'), 'id', include=['last_name'], name='end_user_by_last_name'),
            models.Index(Lower('first_name'), 'id', include=['first_name'], name='end_user_by_first_name'),
            models.Index(Lower('im_address'), 'id', name='end_user_by_im_address'),  # twice would be too long for a row
            models.Index(Lower('mail'), 'id', include=['mail'], name='end_user_by_mail'),
            models.Index(Lower('directory_uri'), 'id', include=['directory_uri'], name='end_user_by_directory_uri'),
            models.Index(fields=['user_id'], name='end_user_odd_uri', condition=ODD_URI),
        ]

    def __str__(self) -> str:
        return self.user_id


class Phone(models.Model):
    """A device of a user: added here, or by the user's client where the user profile allows that."""

    name = models.CharField(
        _('Device Name'), max_length=15, unique=True,
        help_text=_('SEP and 12 hexadecimal digits, or CSF, TCT, BOT or TAB and 1 to 12 characters; upper case.'),
    )  # fmt: skip
    user = models.ForeignKey(
        EndUser, models.CASCADE, null=True, blank=True, related_name='phones', verbose_name=_('Owner User ID'),
        help_text=_('Whose device it is; it goes with the user. None: it belongs to who provisions it first.'),
    )  # fmt: skip
    description = models.CharField(
        _('Description'), max_length=128, blank=True, default='', db_default='',
        help_text=_('At most 128 characters. Empty: as the universal device template says.'),
    )  # fmt: skip
    created_at = models.DateTimeField(_('Created'), auto_now_add=True, db_default=Now(), editable=False)

    class Meta:
        db_table = 'phone'
        verbose_name, verbose_name_plural = _('Phone'), _('Phones')

    def __str__(self) -> str:
        return self.name


WITHOUT_PRESENCE = models.Q(card__isnull=False) | ~models.Q(jid__contains='@')
"""Contact list entries with a card, or without an IM address: few of many, found by an index."""


class RosterItem(models.Model):
    """One entry of a user's roster (RFC 6121 2.1)."""

    pk = models.CompositePrimaryKey('user', 'jid')
    user = models.ForeignKey(EndUser, models.CASCADE, related_name='roster', db_index=False)
    jid = models.CharField(_('Contact'), max_length=3071)
    """Prepared bare JID of the contact."""
    name = models.CharField(_('Nickname'), max_length=1023, blank=True)
    groups = ArrayField(models.CharField(max_length=1023), verbose_name=_('Groups'), default=list)
    subscription = models.SmallIntegerField(default=0)
    """0 none, 1 to, 2 from, 3 both."""
    ask = models.BooleanField(default=False)
    """Our subscription request waits for the contact's answer."""
    pending_in = models.BooleanField(default=False)
    """The contact's subscription request waits for our answer."""
    approved = models.BooleanField(default=False)
    """Pre-approved (RFC 6121 3.4)."""
    is_contact = models.BooleanField(default=True)
    """False for an entry that exists only because the other side watches or asked: takes no place in the list."""
    state = models.IntegerField(default=0)
    """State column of the original's export, carried unchanged."""
    request = models.BinaryField(null=True)
    """The subscription request stanza while pending_in."""
    card = models.TextField(null=True)
    """What is known of a non-presence contact (engine.contract.cards), as JSON; None: nothing."""

    class Meta:
        db_table = 'roster_item'
        verbose_name_plural = _('Contact list entries')
        # not db_index: on text that makes a second index for LIKE, which nobody asks for and every import pays for
        indexes = [
            models.Index(fields=['jid'], name='roster_item_jid'),
            models.Index(fields=['user', 'jid'], name='roster_item_cards', condition=WITHOUT_PRESENCE),
        ]
