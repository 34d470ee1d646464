"""What groups of users share: UC services, service and user profiles, feature group templates (guide 2378-2543)."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _


class Named(models.Model):
    """What every one of them has."""

    name = models.CharField(_('Name'), max_length=50, unique=True, help_text=_('1 to 50 characters, used once.'))
    description = models.CharField(_('Description'), max_length=100, blank=True, help_text=_('At most 100 characters.'))

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


class Profile(Named):
    """One of its kind may be the default: it counts for users without one of their own."""

    is_default = models.BooleanField(default=False)

    class Meta:
        abstract = True

    def validate_constraints(self, exclude: Any = None) -> None:
        """The writer takes the mark from the present default first; the database sees to it."""


def only_default(name: str) -> models.UniqueConstraint:
    """At most one row is marked."""
    return models.UniqueConstraint(fields=['is_default'], condition=models.Q(is_default=True), name=name)


class UcService(Named):
    """A server that clients may use (guide 2471-2490)."""

    type = models.CharField(
        _('UC Service Type'), max_length=30, choices=[('im_and_presence', _('IM and Presence'))],
        default='im_and_presence', help_text=_('What clients use the server for.'),
    )  # fmt: skip
    product = models.CharField(
        _('Product Type'), max_length=30, choices=[('unified_cm', _('Unified CM (IM and Presence)'))],
        default='unified_cm', help_text=_('The product that provides the service.'),
    )  # fmt: skip
    address = models.CharField(
        _('Host Name/IP Address'), max_length=255,
        help_text=_('Host name, IPv4 or IPv6 address, or a DNS SRV name such as _xmpp-client._tcp.example.com.'),
    )  # fmt: skip

    class Meta:
        db_table = 'uc_service'
        verbose_name, verbose_name_plural = _('UC Service'), _('UC Services')


def _place(model: type[models.Model], of: str, label: Any, help_text: Any) -> Any:
    """A place for a UC service or a template in a profile."""
    return models.ForeignKey(
        model, models.PROTECT, null=True, blank=True, related_name=of, verbose_name=label, help_text=help_text
    )


_server = partial(_place, UcService)


class ServiceProfile(Profile):
    """Which UC services the clients of a group of users get, in the order to try them (guide 2492-2513)."""

    is_default = models.BooleanField(
        _('Make this the default service profile for the system'), default=False,
        help_text=_('Users without a service profile of their own get it. Marking one unmarks the other.'),
    )  # fmt: skip
    imp_primary = _server(
        'primary_of', _('Primary'), _('The server that clients use. Without one, the profile gives no IM and Presence.')
    )
    imp_secondary = _server('secondary_of', _('Secondary'), _('For clients that cannot reach the primary server.'))
    imp_tertiary = _server('tertiary_of', _('Tertiary'), _('For clients that reach neither of the other two.'))

    class Meta:
        db_table = 'service_profile'
        verbose_name, verbose_name_plural = _('Service Profile'), _('Service Profiles')
        constraints = [only_default('one_default_service_profile')]


TAGS_HELP = _('At most 128 characters. #FirstName#, #LastName#, #UserID# and #Product# stand for those of the user.')
MASK = RegexValidator(r'^[+]?[0-9X]+\Z', _('Enter digits and X, for example 11XX.'))


class UniversalLineTemplate(Named):
    """What the telephone lines of users have in common (guide 2413)."""

    line_description = models.CharField(
        _('Line Description'), max_length=128, default='#FirstName# #LastName#', blank=True, help_text=TAGS_HELP
    )
    external_mask = models.CharField(
        _('External Phone Number Mask'), max_length=24, blank=True, validators=[MASK],
        help_text=_('Makes the number that others dial: +4989123XXXX and the extension 1145 are +49891231145.'),
    )  # fmt: skip

    class Meta:
        db_table = 'universal_line_template'
        verbose_name, verbose_name_plural = _('Universal Line Template'), _('Universal Line Templates')


class UniversalDeviceTemplate(Named):
    """What the devices of users have in common (guide 2413)."""

    device_description = models.CharField(
        _('Device Description'), max_length=128, default='#FirstName# #LastName# (#Product#)', blank=True,
        help_text=TAGS_HELP,
    )  # fmt: skip

    class Meta:
        db_table = 'universal_device_template'
        verbose_name, verbose_name_plural = _('Universal Device Template'), _('Universal Device Templates')


class UserProfile(Profile):
    """Which templates the line and the devices of a user follow, and whether users add devices (guide 2413)."""

    is_default = models.BooleanField(
        _('Make this the default User Profile for the system'), default=False,
        help_text=_('Users without a user profile of their own get it. Marking one unmarks the other.'),
    )  # fmt: skip
    desk_template = _place(
        UniversalDeviceTemplate, 'desk_profiles', _('Desk Phones'), _('Template of devices named SEP and an address.')
    )
    mobile_template = _place(
        UniversalDeviceTemplate,
        'mobile_profiles',
        _('Mobile and Desktop Devices'),
        _('Template of CSF, TCT, BOT, TAB.'),
    )
    line_template = _place(
        UniversalLineTemplate, 'profiles', _('Universal Line Template'), _('What lines have in common.')
    )
    self_provisioning = models.BooleanField(
        _('Allow End User to Provision their own phones'), default=False,
        help_text=_('Clients add their device by themselves. Needs the line template and a device template.'),
    )  # fmt: skip
    most_phones = models.PositiveIntegerField(
        _('Limit Self-Provisioning once End User has this many phones'), default=10,
        validators=[MinValueValidator(1), MaxValueValidator(100)], help_text=_('1 to 100.'),
    )  # fmt: skip

    class Meta:
        db_table = 'user_profile'
        verbose_name, verbose_name_plural = _('User Profile'), _('User Profiles')
        constraints = [only_default('one_default_user_profile')]


SERVICE_PROFILE_HELP = _('Which servers the clients of the user are told. None: the default of the system.')
USER_PROFILE_HELP = _('Which templates line and devices of the user follow. None: the default of the system.')


class FeatureGroupTemplate(Named):
    """Settings that many users get at once (guide 2407-2414, 2515-2539)."""

    home_cluster = models.BooleanField(
        _('Home Cluster'), default=False, help_text=_('This cluster is the home cluster of the users.')
    )
    im_enabled = models.BooleanField(
        _('Enable User for Unified CM IM and Presence'), default=False,
        help_text=_('The users may sign in and exchange instant messages and availability. Needs Home Cluster.'),
    )  # fmt: skip
    service_profile = models.ForeignKey(
        ServiceProfile, models.PROTECT, null=True, blank=True, related_name='templates',
        verbose_name=_('Service Profile'), help_text=SERVICE_PROFILE_HELP,
    )  # fmt: skip
    user_profile = models.ForeignKey(
        UserProfile, models.PROTECT, null=True, blank=True, related_name='templates',
        verbose_name=_('User Profile'), help_text=USER_PROFILE_HELP,
    )  # fmt: skip

    class Meta:
        db_table = 'feature_group_template'
        verbose_name, verbose_name_plural = _('Feature Group Template'), _('Feature Group Templates')
