"""Messaging > Group Chat System Administrators (guide 5662-5684, 12518)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.jid import InvalidJID, prepare
from engine.contract.services import TEXT_CONFERENCE_MANAGER
from impadmin.console.access import Right
from impadmin.console.page import Fieldset, Help, Page, SettingsPage
from impadmin.messaging.models import GroupChatAdministrator, GroupChatSettings

MENU = 'Messaging > Group Chat System Administrators'


def address_is_a_person(entry: GroupChatAdministrator, before: Any) -> None:
    """``name@domain`` without a resource, prepared, so that the same person is not listed twice."""
    try:
        address = prepare(entry.address.strip())
    except InvalidJID:
        address = ''
    if '@' not in address or '/' in address:
        raise ValidationError({'address': _('The IM address must have the form name@domain.')})
    entry.address = address
    if GroupChatAdministrator.objects.exclude(pk=entry.pk).filter(address=address).exists():
        raise ValidationError({'address': _('%(name)s is in the list already.') % {'name': address}})
    if not all(char.isprintable() for char in entry.nickname):
        raise ValidationError({'nickname': _('The nickname has a character that cannot be shown. Remove it.')})


SETTINGS = SettingsPage(
    name='group-chat-administrator-settings',
    console='admin',
    area='messaging',
    menu=f'{MENU} > Settings',
    title=gettext_lazy('Group Chat System Administrators: Settings'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('Whether chat rooms have administrators for the whole system.'),
    help=Help(
        when=gettext_lazy('Before the first administrator of all chat rooms is added.'),
        effect=gettext_lazy('On or off takes effect when Cisco XCP Router restarts. The list can change at any time.'),
        guide='5668-5672, 12518',
    ),
    works_through=(TEXT_CONFERENCE_MANAGER,),
    related=('group-chat-administrators', 'group-chat', 'control-center'),
    model=GroupChatSettings,
    fieldsets=(Fieldset(gettext_lazy('Group Chat System Administrators'), ('administrators_enabled',)),),
)
ADMINISTRATORS = Page(
    name='group-chat-administrators',
    console='admin',
    area='messaging',
    menu=f'{MENU} > Administrators',
    title=gettext_lazy('Group Chat System Administrators'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('People who administer every chat room of the system.'),
    help=Help(
        when=gettext_lazy('When somebody must be able to enter, change or destroy rooms that others own.'),
        effect=gettext_lazy('The person owns every room. Additions and removals need no restart.'),
        guide='5674-5684',
    ),
    works_through=(TEXT_CONFERENCE_MANAGER,),
    related=('group-chat-administrator-settings', 'group-chat'),
    model=GroupChatAdministrator,
    columns=('address', 'nickname', 'description'),
    find=('address', 'nickname', 'description'),
    fieldsets=(Fieldset(gettext_lazy('Administrator'), ('address', 'nickname', 'description')),),
    rules=(address_is_a_person,),
    copy_clear=('address',),
    configures=True,
    search=('address', 'nickname'),
    sample=lambda n: {'address': f'boss{n}@example.com', 'nickname': f'Boss {n}', 'description': 'Help desk'},
    bad={'address': ('', 'bob', '@x', 'a@b/c'), 'nickname': ('', 'x' * 256, 'a\x07b'), 'description': ('x' * 256,)},
)
