"""The task flow Configure User Settings (guide 2416-2452): what comes before, its four steps, the users after it."""

from __future__ import annotations

from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from engine.contract.services import ENTERPRISE_PARAMS
from impadmin.console.access import Right
from impadmin.console.flows import Progress, Seen, Step, TaskFlow
from impadmin.ucm import assignment
from impadmin.ucm.models import EndUser, FeatureGroupTemplate, ServiceProfile, UcService

_MODE = next(param for param in ENTERPRISE_PARAMS if param.name == 'user_assignment_mode')
LEADS = Q(imp_primary__isnull=False)
"""Service profiles with IM and Presence."""


def mode_is(seen: Seen) -> Progress:
    """Every mode is right; somebody must have decided on it."""
    return Progress(False, _(dict(_MODE.choices)[assignment.mode()]))


def service_exists(seen: Seen) -> Progress:
    """A server that clients can be told."""
    names = list(UcService.objects.order_by('name').values_list('name', flat=True)[:5])
    return Progress(bool(names), _(', ').join(names))


def profile_exists(seen: Seen) -> Progress:
    """A profile with IM and Presence."""
    names = list(ServiceProfile.objects.filter(LEADS).order_by('name').values_list('name', flat=True)[:5])
    return Progress(bool(names), _(', ').join(names))


def template_exists(seen: Seen) -> Progress:
    """A template that enables users and leads to a profile with IM and Presence, its own or the default."""
    default = ServiceProfile.objects.filter(LEADS, is_default=True).exists()
    leads = Q(service_profile__imp_primary__isnull=False) | (Q(service_profile=None) if default else Q(pk=None))
    found = FeatureGroupTemplate.objects.filter(leads, im_enabled=True).order_by('name')
    names = list(found.values_list('name', flat=True)[:5])
    return Progress(bool(names), _(', ').join(names))


def users_have_profiles(seen: Seen) -> Progress:
    """Every enabled user has a profile with IM and Presence."""
    enabled = EndUser.objects.filter(active=True, im_enabled=True)
    if not enabled.exists():
        return Progress(False)
    without = Q(service_profile__isnull=False, service_profile__imp_primary=None)
    if not ServiceProfile.objects.filter(LEADS, is_default=True).exists():
        without |= Q(service_profile=None)
    count = enabled.filter(without).count()
    text = ngettext(
        '%(count)d enabled user has no service profile with IM and Presence.',
        '%(count)d enabled users have no service profile with IM and Presence.',
        count,
    )
    return Progress(not count, text % {'count': count} if count else '')


USER_SETTINGS = TaskFlow(
    name='user-settings-flow',
    console='admin',
    area='system',
    menu='System > Task Flows > Configure User Settings',
    title=gettext_lazy('Configure User Settings'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Every user is enabled, and every client is told its servers.'),
    related=('service-profiles', 'feature-group-templates', 'end-users'),
    order=915,
    guide='2416-2452',
    from_start=False,
    steps=(
        Step(
            name='moves',
            title=gettext_lazy('Users of other clusters have moved here'),
            text=gettext_lazy(
                'Move users between clusters before you configure them: their contact lists are exported there and '
                'imported here. This is not the migration of users for partitioned intradomain federation. Tick it '
                'when nobody has to move.'
            ),
            page='import-contact-lists',
            guide='2416-2424',
        ),
        Step(
            name='mode',
            title=gettext_lazy('Choose the user assignment mode'),
            text=gettext_lazy('How users are spread over the nodes.'),
            page='enterprise-parameters',
            guide='2454-2469',
            done=mode_is,
            by_hand=True,
        ),
        Step(
            name='service',
            title=gettext_lazy('Add an IM and Presence UC service'),
            text=gettext_lazy('Add a second one for clients that cannot reach the first.'),
            page='uc-services',
            guide='2471-2490',
            done=service_exists,
        ),
        Step(
            name='profile',
            title=gettext_lazy('Configure a service profile'),
            text=gettext_lazy('It names the UC service as its primary server.'),
            page='service-profiles',
            guide='2492-2513',
            done=profile_exists,
        ),
        Step(
            name='template',
            title=gettext_lazy('Configure a feature group template'),
            text=gettext_lazy('It enables users for IM and Presence and gives them the service profile.'),
            page='feature-group-templates',
            guide='2515-2543',
            done=template_exists,
        ),
        Step(
            name='users',
            title=gettext_lazy('Give the settings to the users'),
            text=gettext_lazy(
                'Select them and choose Apply Feature Group Template, or import a file with the column service_profile.'
            ),
            page='end-users',
            guide='2396-2405',
            done=users_have_profiles,
        ),
    ),
)
