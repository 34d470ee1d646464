"""User Management > User Settings and User/Phone Add: UC Service, Service Profile, Feature Group Template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from engine.contract.services import UDS_TOMCAT
from impadmin.console import actions, registry
from impadmin.console.access import Right
from impadmin.console.actions import Actor, Refused
from impadmin.console.page import Column, Command, Fieldset, Help, Page, Result
from impadmin.console.rehearsal import Change
from impadmin.ucm import defaults, uc_address
from impadmin.ucm.models import FeatureGroupTemplate, ServiceProfile, UcService


def address_leads_somewhere(service: UcService, before: Any) -> None:
    """An address of one of the three kinds."""
    service.address = service.address.strip()
    if not uc_address.kind(service.address):
        raise ValidationError(
            {
                'address': _('“%(address)s” is no host name, IP address or DNS SRV name. Enter for example %(like)s.')
                % {'address': service.address, 'like': 'imp1.example.com'}
            }
        )


def test_service(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Resolve the address as clients do and try to connect."""
    (service,) = objects
    try:
        found = list(uc_address.probe(service.address))
    except uc_address.NotFound as problem:
        raise Refused(f'{service.address}: {problem}') from None
    lines = [f'{uc_address.shown(server)}: {problem or _("answers")}' for server, problem in found]
    if all(problem for _server, problem in found):
        raise Refused('; '.join(lines))
    data = {'servers': [[uc_address.shown(server), problem] for server, problem in found]}
    return Result('; '.join(lines), data=data)


UC_SERVICES = Page(
    name='uc-services',
    console='ucm',
    area='ucm',
    menu='User Management > User Settings > UC Service',
    order=110,
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Servers that clients may use. Service profiles say who gets which.'),
    help=Help(
        when=gettext_lazy('Before the first service profile, and when a server gets another name.'),
        effect=gettext_lazy(
            'Clients are told the address as it stands here with their next request. Test resolves it as they do, '
            'and tries to connect.'
        ),
        guide='2471-2490, 3643-3672',
    ),
    related=('service-profiles', 'user-settings-flow'),
    touches=defaults.users_of_service,
    model=UcService,
    columns=('name', 'type', 'product', 'address', 'description'),
    find=('name', 'address', 'description'),
    search=('name', 'address'),
    fieldsets=(
        Fieldset(gettext_lazy('UC Service Information'), ('type', 'product', 'name', 'description', 'address')),
    ),
    rules=(address_leads_somewhere,),
    bulk=('description',),
    commands=(Command('test', gettext_lazy('Test'), test_service, at_once=True),),
    sample=lambda n: {'name': f'IM and Presence {n}', 'description': 'Publisher', 'address': f'imp{n}.example.com'},
    bad={'address': ('bad host!', '10.1.1.300', '_imp.example.com', '_xmpp-client._tcp.')},
)


def servers_differ(profile: ServiceProfile, before: Any) -> None:
    """Each server once, the first ones first."""
    names = ('imp_primary', 'imp_secondary', 'imp_tertiary')
    chosen = [getattr(profile, f'{name}_id') for name in names]
    for place, key in enumerate(chosen[1:], 1):
        if key is not None and chosen[place - 1] is None:
            label = ServiceProfile._meta.get_field(names[place - 1]).verbose_name
            raise ValidationError({names[place]: _('Choose a server as %(place)s first.') % {'place': label}})
        if key is not None and key in chosen[:place]:
            raise ValidationError({names[place]: _('This server is chosen already. Choose another, or None.')})


SERVICE_PROFILES = Page(
    name='service-profiles',
    works_through=(UDS_TOMCAT,),
    console='ucm',
    area='ucm',
    menu='User Management > User Settings > Service Profile',
    order=111,
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Which UC services the clients of a group of users are told, in the order to try them.'),
    help=Help(
        when=gettext_lazy('When groups of users need different servers. One default profile is enough otherwise.'),
        effect=gettext_lazy(
            'Clients get the profile of their user from Cisco UDS Tomcat with their next request. Give it to users on '
            'End User, many at once by Bulk Edit or an imported file, or by a feature group template.'
        ),
        guide='2396-2405, 2492-2513',
    ),
    related=('uc-services', 'feature-group-templates', 'end-users'),
    touches=defaults.users_of_profile,
    model=ServiceProfile,
    columns=('name', Column('is_default', gettext_lazy('Default')), 'imp_primary', 'imp_secondary', 'description'),
    find=('name', 'description', 'imp_primary__name', 'is_default'),
    search=('name',),
    fieldsets=(
        Fieldset(gettext_lazy('Service Profile Information'), ('name', 'description', 'is_default')),
        Fieldset(gettext_lazy('IM and Presence Profile'), ('imp_primary', 'imp_secondary', 'imp_tertiary')),
    ),
    rules=(servers_differ,),
    create=defaults.create_service_profile,
    update=defaults.update,
    copy_clear=('is_default',),
    sample=lambda n: {'name': f'Site {n}', 'description': 'Clients of one site'},
)


def presence_needs_home_cluster(template: FeatureGroupTemplate, before: Any) -> None:
    """Only users of this cluster can be enabled."""
    if template.im_enabled and not template.home_cluster:
        raise ValidationError({'im_enabled': _('Tick Home Cluster too: only users of this cluster can be enabled.')})


def settings_of(template: FeatureGroupTemplate) -> dict[str, Any]:
    """What a user gets from a template, once; later changes of the template do not reach the user."""
    return {name: getattr(template, name) for name in ('home_cluster', 'im_enabled', 'service_profile', 'user_profile')}


class TemplateForm(forms.Form):
    """Which template."""

    template = forms.ModelChoiceField(
        label=gettext_lazy('Feature Group Template'),
        queryset=FeatureGroupTemplate.objects.order_by('name'),
        to_field_name='name',
        empty_label=gettext_lazy('Choose one'),
        help_text=gettext_lazy('Home Cluster, IM and Presence, Service Profile and User Profile are taken from it.'),
    )


def apply_template(actor: Actor, users: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Give the selected users the settings of a template."""
    values = settings_of(data['template'])
    page = registry.page('end-users')
    assert isinstance(page, Page)
    verdicts = actions.do_changes(actor, page, [Change('update', values, user) for user in users])
    refused = [(one.name, ' '.join(text for _field, text in one.problems)) for one in verdicts if one.problems]
    done = len(verdicts) - len(refused)
    text = ngettext('%(count)d user has these settings now.', '%(count)d users have these settings now.', done)
    return Result(text % {'count': done}, data={'done': done, 'refused': refused}, refused=refused)


def overwrites(users: Sequence[Any]) -> str:
    """What applying a template takes away."""
    return ngettext(
        'Settings that %(count)d user has now are overwritten.',
        'Settings that %(count)d users have now are overwritten.',
        len(users),
    ) % {'count': len(users)}


APPLY_TEMPLATE = Command(
    'apply-template',
    gettext_lazy('Apply Feature Group Template'),
    apply_template,
    scope='selection',
    form=TemplateForm,
    confirm=overwrites,
)
FEATURE_GROUP_TEMPLATES = Page(
    name='feature-group-templates',
    console='ucm',
    area='ucm',
    menu='User Management > User/Phone Add > Feature Group Template',
    order=120,
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Settings that many users get at once.'),
    help=Help(
        when=gettext_lazy('Before you give a group of users IM and Presence and their service profile.'),
        effect=gettext_lazy(
            'Nothing by itself: an LDAP directory gives it to users it inserts, Apply Feature Group Template on '
            'End User to those you select. They keep what they got; later changes of the template do not reach them.'
        ),
        guide='2407-2414, 2515-2543',
    ),
    related=('service-profiles', 'user-profiles', 'end-users'),
    model=FeatureGroupTemplate,
    columns=('name', 'home_cluster', 'im_enabled', 'service_profile', 'user_profile', 'description'),
    find=('name', 'description', 'service_profile__name', 'user_profile__name'),
    search=('name',),
    fieldsets=(
        Fieldset(gettext_lazy('Feature Group Template Information'), ('name', 'description')),
        Fieldset(gettext_lazy('Features'), ('home_cluster', 'im_enabled', 'service_profile', 'user_profile')),
    ),
    rules=(presence_needs_home_cluster,),
    sample=lambda n: {'name': f'Sales {n}', 'description': 'Everybody', 'home_cluster': True, 'im_enabled': True},
)
PAGES = (UC_SERVICES, SERVICE_PROFILES, FEATURE_GROUP_TEMPLATES)
