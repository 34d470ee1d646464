"""User Profile with its universal templates, and the devices of users (guide 2413)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract import phones
from engine.contract.services import UDS_TOMCAT
from impadmin.console.access import Right
from impadmin.console.page import Column, Fieldset, Help, Page
from impadmin.ucm import defaults
from impadmin.ucm.models import Phone, UniversalDeviceTemplate, UniversalLineTemplate, UserProfile


def tags_are_known(template: Any, before: Any) -> None:
    """A tag that stands for nothing would be lost."""
    name = 'line_description' if isinstance(template, UniversalLineTemplate) else 'device_description'
    if wrong := phones.unknown_tags(getattr(template, name)):
        known = ', '.join(f'#{tag}#' for tag in phones.TAGS)
        text = _('%(tag)s stands for nothing. Use one of: %(known)s.') % {'tag': wrong[0], 'known': known}
        raise ValidationError({name: text})


def provisioning_is_possible(profile: UserProfile, before: Any) -> None:
    """What users provision follows templates."""
    if not profile.self_provisioning:
        return
    missing = [] if profile.line_template else ['line_template']
    if not (profile.desk_template or profile.mobile_template):
        missing.append('mobile_template')
    if missing:
        raise ValidationError(dict.fromkeys(missing, _('Self-provisioning needs a template here.')))


def device_name_is_one(phone: Phone, before: Any) -> None:
    """The first letters tell what it is."""
    phone.name = phone.name.strip().upper()
    if phones.kind(phone.name) is None:
        text = _('“%(name)s” is no device name. Enter for example SEP001122AABBCC or CSFJSMITH.')
        raise ValidationError({'name': text % {'name': phone.name}})


HELP = Help(
    when=gettext_lazy('Before users get lines and devices; one default user profile is enough for most.'),
    effect=gettext_lazy(
        'Clients are told the line and the devices of their user by Cisco UDS Tomcat with their next request, as the '
        'templates are then. Calls are no part of this service.'
    ),
    guide='2413',
)
USER_PROFILES = Page(
    name='user-profiles', console='ucm', area='ucm', menu='User Management > User Settings > User Profile', order=112,
    right=Right.CONFIGURATION, works_through=(UDS_TOMCAT,), help=HELP,
    intro=gettext_lazy('Which templates line and devices of users follow, and who adds devices.'),
    related=('universal-line-templates', 'universal-device-templates', 'phones'),
    model=UserProfile,
    columns=('name', Column('is_default', gettext_lazy('Default')), 'line_template', 'desk_template',
             'mobile_template', 'self_provisioning', 'description'),
    find=('name', 'description', 'line_template__name', 'self_provisioning'),
    fieldsets=(
        Fieldset(gettext_lazy('User Profile'), ('name', 'description', 'is_default')),
        Fieldset(gettext_lazy('Universal Device Template'), ('desk_template', 'mobile_template')),
        Fieldset(gettext_lazy('Universal Line Template'), ('line_template',)),
        Fieldset(gettext_lazy('Self-Provisioning'), ('self_provisioning', 'most_phones')),
    ),
    rules=(provisioning_is_possible,), create=defaults.create_user_profile, update=defaults.update,
    copy_clear=('is_default',), sample=lambda n: {'name': f'Office {n}', 'description': 'Phones on desks'},
)  # fmt: skip
LINE_TEMPLATES = Page(
    name='universal-line-templates',
    console='ucm',
    area='ucm',
    menu='User Management > User/Phone Add > Universal Line Template',
    order=121,
    right=Right.CONFIGURATION,
    works_through=(UDS_TOMCAT,),
    intro=gettext_lazy('What the lines of users have in common.'),
    help=HELP,
    related=('user-profiles', 'universal-device-templates'),
    model=UniversalLineTemplate,
    columns=('name', 'line_description', 'external_mask', 'description'),
    find=('name', 'description'),
    fieldsets=(
        Fieldset(gettext_lazy('Universal Line Template'), ('name', 'description')),
        Fieldset(gettext_lazy('Line'), ('line_description', 'external_mask')),
    ),
    rules=(tags_are_known,),
    sample=lambda n: {
        'name': f'Site {n}',
        'description': 'One site',
        'line_description': f'#UserID# {n}',
        'external_mask': f'+4989{n}XXXX',
    },
    bad={'external_mask': ('+49 89', '89+X'), 'line_description': ('#Boss#',)},
)
DEVICE_TEMPLATES = Page(
    name='universal-device-templates',
    console='ucm',
    area='ucm',
    menu='User Management > User/Phone Add > Universal Device Template',
    order=122,
    right=Right.CONFIGURATION,
    works_through=(UDS_TOMCAT,),
    intro=gettext_lazy('What the devices of users have in common.'),
    help=HELP,
    related=('user-profiles', 'universal-line-templates', 'phones'),
    model=UniversalDeviceTemplate,
    columns=('name', 'device_description', 'description'),
    find=('name', 'description'),
    fieldsets=(
        Fieldset(gettext_lazy('Universal Device Template'), ('name', 'description')),
        Fieldset(gettext_lazy('Device'), ('device_description',)),
    ),
    rules=(tags_are_known,),
    sample=lambda n: {'name': f'Site {n}', 'description': 'One site', 'device_description': f'#UserID# {n}'},
    bad={'device_description': ('#Boss#',)},
)


def model_of(phone: Phone) -> str:
    """What kind of device it is."""
    found = phones.kind(phone.name)
    return found.model if found else ''


PHONES = Page(
    name='phones',
    console='ucm',
    area='ucm',
    menu='Device > Phone',
    right=Right.USERS,
    works_through=(UDS_TOMCAT,),
    intro=gettext_lazy('The devices of users, also those that their clients have added.'),
    help=Help(
        when=gettext_lazy('When a client looks for its device, or somebody has reached the limit of the user profile.'),
        effect=gettext_lazy(
            'Clients see their devices with their next request, with the description that the user profile gives '
            'them. A device goes with its user.'
        ),
        guide='2413, 2727-2738',
    ),
    related=('user-profiles', 'end-users'),
    model=Phone,
    queryset=lambda: Phone.objects.select_related('user'),
    columns=('name', Column('model', gettext_lazy('Device Type'), value=model_of), 'user', 'description', 'created_at'),
    find=('name', 'user__user_id', 'description'),
    search=('name',),
    fieldsets=(Fieldset(gettext_lazy('Device Information'), ('name', 'description', 'user')),),
    rules=(device_name_is_one,),
    sample=lambda n: {'name': f'CSFJSMITH{n}', 'description': f'Room {n}'},
    bad={'name': ('PHONE', 'SEP123', 'CSF', 'CSF A')},
)
PAGES = (USER_PROFILES, LINE_TEMPLATES, DEVICE_TEMPLATES, PHONES)
