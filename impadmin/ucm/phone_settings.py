"""User Profile with its universal templates: for phones that users provision themselves (guide 2413)."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.page import Column, Fieldset, Help, Page, Text
from impadmin.ucm import defaults
from impadmin.ucm.models import UniversalDeviceTemplate, UniversalLineTemplate, UserProfile

WAITS = gettext_lazy('It waits for phones, which users would provision with it.')
HELP = Help(
    when=gettext_lazy('Before users provision phones of their own.'),
    effect=gettext_lazy('Phones that a user provisions get these settings.'),
    guide='2413',
)


def _template(model: type[models.Model], name: str, menu: str, title: Text, intro: Text, order: int) -> Page:
    """The page of one of the two universal templates."""
    return Page(
        name=name,
        console='ucm',
        area='ucm',
        menu=f'User Management > User/Phone Add > {menu}',
        title=title,
        order=order,
        right=Right.CONFIGURATION,
        intro=intro,
        help=HELP,
        waits_for=WAITS,
        model=model,
        columns=('name', 'description'),
        find=('name', 'description'),
        fieldsets=(Fieldset(title, ('name', 'description')),),
        copy_clear=('name',),
        ordering=('name',),
        sample=lambda n: {'name': f'Site {n}', 'description': 'One site'},
        bad={'name': ('', 'x' * 51), 'description': ('x' * 101,)},
    )


USER_PROFILES = Page(
    name='user-profiles',
    console='ucm',
    area='ucm',
    menu='User Management > User Settings > User Profile',
    title=gettext_lazy('User Profiles'),
    order=112,
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Phone and line settings for users who provision their phones themselves.'),
    help=HELP,
    related=('universal-line-templates', 'universal-device-templates', 'feature-group-templates'),
    waits_for=WAITS,
    model=UserProfile,
    queryset=lambda: UserProfile.objects.select_related('line_template', 'device_template'),
    columns=(
        'name',
        Column('is_default', gettext_lazy('Default'), order_by='is_default', kind='bool'),
        'line_template',
        'device_template',
        'description',
    ),
    find=('name', 'description'),
    fieldsets=(
        Fieldset(gettext_lazy('User Profile'), ('name', 'description', 'is_default')),
        Fieldset(gettext_lazy('Self-Provisioning'), ('line_template', 'device_template')),
    ),
    create=defaults.create_user_profile,
    update=defaults.update,
    copy_clear=('name', 'is_default'),
    ordering=('name',),
    sample=lambda n: {'name': f'Office {n}', 'description': 'Phones on desks'},
    bad={'name': ('', 'x' * 51), 'line_template': ('no such template',)},
)
PAGES = (
    USER_PROFILES,
    _template(
        UniversalLineTemplate,
        'universal-line-templates',
        'Universal Line Template',
        gettext_lazy('Universal Line Templates'),
        gettext_lazy('What the lines of self-provisioned phones have in common.'),
        121,
    ),
    _template(
        UniversalDeviceTemplate,
        'universal-device-templates',
        'Universal Device Template',
        gettext_lazy('Universal Device Templates'),
        gettext_lazy('What self-provisioned phones have in common.'),
        122,
    ),
)
