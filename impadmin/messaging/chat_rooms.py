"""Messaging > Group Chat and Persistent Chat (guide 5694-5742, 5789, 5800, 7757-7897)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.services import TEXT_CONFERENCE_MANAGER
from impadmin.console.access import Right
from impadmin.console.actions import Actor, do_update_settings
from impadmin.console.forms import editable_names
from impadmin.console.page import Command, Fieldset, Help, Result, SettingsPage, Text
from impadmin.console.rehearsal import everybody
from impadmin.messaging.models import ChatRoomSettings, GroupChatAlias


def limits_agree(settings: ChatRoomSettings, before: Any) -> None:
    """A value that another one bounds is not above it (guide 7831-7835, 7880)."""
    errors = {}
    for name, bound in (
        ('max_hidden', 'max_users'),
        ('default_occupancy', 'max_users'),
        ('history_default', 'archive_maximum'),
    ):
        most = getattr(settings, bound)
        if getattr(settings, name) > most:
            label = ChatRoomSettings._meta.get_field(bound).verbose_name
            errors[name] = _('Enter at most %(most)d, the value of “%(other)s”.') % {'most': most, 'other': label}
    if errors:
        raise ValidationError(errors)


def hides_people(settings: ChatRoomSettings) -> str | Promise:
    """What anonymous rooms mean for Cisco Jabber (guide 5789), or ''."""
    if not settings.anonymous and not settings.owners_change_anonymous:
        return ''
    return gettext_lazy(
        'Chat rooms do not work in Cisco Jabber while “Rooms are anonymous by default” or “Room owners can change '
        'whether or not rooms are anonymous by default” is on. Where people use Cisco Jabber, turn both off.'
    )


def _impact(before: ChatRoomSettings, after: ChatRoomSettings) -> list[tuple[Text, int]]:
    """Who notices."""
    found: list[tuple[Text, int]] = []
    if hides_people(after) and not hides_people(before):
        found.append((_('users could have a Cisco Jabber in which chat rooms stop working'), everybody()))
    if before.managed_aliases and not after.managed_aliases:
        kept = GroupChatAlias.objects.filter(primary=True).count()
        found.append((_('primary aliases stay as they are and no longer follow the cluster ID and the domain'), kept))
    return found


def set_to_default(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Every setting of the page as after the installation (guide 7884-7897)."""
    fresh = ChatRoomSettings()
    do_update_settings(actor, SETTINGS, {name: getattr(fresh, name) for name in editable_names(SETTINGS)})
    return Result(_('All settings of chat rooms have their default values.'))


SETTINGS = SettingsPage(
    name='group-chat',
    console='admin',
    area='messaging',
    menu='Messaging > Group Chat and Persistent Chat',
    title=gettext_lazy('Group Chat and Persistent Chat'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('What chat rooms are like when they are created, and what their owners may change.'),
    help=Help(
        when=gettext_lazy(
            'To make rooms private, to set limits, or to decide what owners of rooms may change. Chat rooms work '
            'without any setting here as soon as instant messaging is on.'
        ),
        effect=gettext_lazy(
            'Limits and permissions hold for every room; the other settings are what a new room begins with. A room '
            'ends when the last person leaves it, and nothing of it is kept.'
        ),
        guide='5609-5640, 5694-5742, 5789, 5800, 7618-7641, 7757-7897, 7915-7938',
    ),
    related=('group-chat-aliases', 'group-chat-administrator-settings', 'control-center'),
    works_through=(TEXT_CONFERENCE_MANAGER,),
    model=ChatRoomSettings,
    fieldsets=(
        Fieldset(gettext_lazy('Group Chat Server Settings'), ('managed_aliases', 'max_rooms')),
        Fieldset(
            gettext_lazy('Member Settings'),
            (
                'members_only',
                'moderators_invite',
                'owners_change_members_only',
                'owners_change_invite',
                'self_membership',
                'owners_change_self_membership',
            ),
            gettext_lazy(
                'For private rooms: turn on “Rooms are for members only by default”, and turn off “Room owners can '
                'change whether or not rooms are for members only” and “Only moderators can invite people to '
                'members-only rooms”.'
            ),
        ),
        Fieldset(
            gettext_lazy('Availability Settings'),
            (
                'absent_visible',
                'owners_change_absent_visible',
                'gc1',
                'owners_change_gc1',
                'anonymous',
                'owners_change_anonymous',
            ),
        ),
        Fieldset(
            gettext_lazy('Occupancy Settings'),
            ('max_users', 'max_hidden', 'default_occupancy', 'owners_change_occupancy'),
        ),
        Fieldset(
            gettext_lazy('Chat Message Settings'),
            (
                'private_level',
                'owners_change_private_level',
                'subject_level',
                'owners_change_subject_level',
                'strip_xhtml',
                'owners_change_xhtml',
            ),
        ),
        Fieldset(gettext_lazy('Moderated Room Settings'), ('moderated', 'owners_change_moderated')),
        Fieldset(gettext_lazy('History Settings'), ('archive_maximum', 'history_default', 'owners_change_history')),
    ),
    rules=(limits_agree,),
    warning=hides_people,
    impact=_impact,
    commands=(
        Command(
            'set-to-default',
            gettext_lazy('Set to Default'),
            set_to_default,
            scope='page',
            confirm=lambda _objects: gettext_lazy('Every setting of this page goes back to its default value.'),
        ),
    ),
    bad={
        'default_occupancy': (1001,),
        'max_hidden': (1001,),
        'history_default': (101,),
        'subject_level': ('visitor',),
    },
)
