"""Group chat: settings of rooms, server aliases, system administrators."""

from __future__ import annotations

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _


def _whole(label: Any, default: int, low: int, high: int, help_text: Any) -> models.IntegerField[Any, Any]:
    limits = [MinValueValidator(low), MaxValueValidator(high)]
    return models.IntegerField(label, default=default, validators=limits, help_text=help_text)


def _owners(label: Any, default: bool = True) -> models.BooleanField[Any, Any]:
    return models.BooleanField(
        label, default=default, help_text=_('Off: the setting is not in the form that the owner of a room gets.')
    )


LEVELS = {'visitor': _('Visitor'), 'participant': _('Participant'), 'moderator': _('Moderator')}


class ChatRoomSettings(models.Model):
    """Messaging > Group Chat and Persistent Chat (guide 5694-5742, 7757-7897): one row, id 1. Names and defaults of
    what rooms obey are those of ``engine.contract.chat.RoomSettings``."""

    managed_aliases = models.BooleanField(
        _('System automatically manages primary group chat server aliases'), default=True,
        help_text=_('Every node has an alias conference-NODE-CLUSTER.DOMAIN, which follows the cluster ID and the '
                    'default domain. Off: the aliases stay, and you change them yourself.'),
    )  # fmt: skip
    max_rooms = _whole(
        _('Maximum number of rooms allowed'), 5500, 1, 10_000, _('On one node. At the limit no room can be created.')
    )
    members_only = models.BooleanField(
        _('Rooms are for members only by default'), default=False,
        help_text=_('Only people on the list of members that owners and administrators of the room keep can enter. '
                    'Such a room is not in the list of rooms.'),
    )  # fmt: skip
    moderators_invite = models.BooleanField(
        _('Only moderators can invite people to members-only rooms'), default=True,
        help_text=_('Off: everybody in the room can invite, and who is invited becomes a member.'),
    )  # fmt: skip
    owners_change_members_only = models.BooleanField(
        _('Room owners can change whether or not rooms are for members only'), default=True,
        help_text=_('Off: owners configure a room once, when they create it; later only group chat system '
                    'administrators do.'),
    )  # fmt: skip
    owners_change_invite = _owners(
        _('Room owners can change whether or not only moderators can invite people to members-only rooms')
    )
    self_membership = models.BooleanField(
        _('Users can add themselves to rooms as members'), default=False,
        help_text=_('Whoever asks to become a member is one at once, also of a members-only room.'),
    )  # fmt: skip
    owners_change_self_membership = _owners(
        _('Room owners can change whether users can add themselves to rooms as members'), False
    )
    absent_visible = models.BooleanField(
        _('Members and administrators who are not in a room are still visible in the room'), default=True,
        help_text=_('They stand in the list of people of the room even when they are not signed in.'),
    )  # fmt: skip
    owners_change_absent_visible = _owners(
        _('Room owners can change whether members and administrators who are not in a room are still visible in the '
          'room'),
    )  # fmt: skip
    gc1 = models.BooleanField(
        _('Rooms are backwards-compatible with older clients'), default=False,
        help_text=_('Clients that know only Group Chat 1.0 can enter. Off: they are refused.'),
    )  # fmt: skip
    owners_change_gc1 = _owners(
        _('Room owners can change whether rooms are backwards-compatible with older clients'), False
    )
    anonymous = models.BooleanField(
        _('Rooms are anonymous by default'), default=False,
        help_text=_('People see nicknames; only moderators see IM addresses. Cisco Jabber cannot use such rooms.'),
    )  # fmt: skip
    owners_change_anonymous = models.BooleanField(
        _('Room owners can change whether or not rooms are anonymous by default'), default=False,
        help_text=_('Leave this off where people use Cisco Jabber: chat rooms fail there when it is on.'),
    )  # fmt: skip
    max_users = _whole(
        _('How many users can be in a room at one time'), 1000, 1, 10_000,
        _('Holds for every room. Hidden users count, too.'),
    )  # fmt: skip
    max_hidden = _whole(
        _('How many hidden users can be in a room at one time'), 1000, 0, 10_000,
        _('Hidden users read along: nobody sees them, and they cannot write.'),
    )  # fmt: skip
    default_occupancy = _whole(
        _('Default maximum occupancy for a room'), 50, 1, 10_000,
        _('What a new room begins with. Not more than the users who can be in a room at one time.'),
    )  # fmt: skip
    owners_change_occupancy = _owners(_('Room owners can change default maximum occupancy for a room'))
    private_level = models.CharField(
        _('Lowest participation level a user can have to send a private message from within the room'),
        max_length=11, choices=LEVELS, default='visitor',
        help_text=_('A moderator can do what a participant can, and a participant what a visitor can.'),
    )  # fmt: skip
    owners_change_private_level = _owners(
        _('Room owners can change the lowest participation level a user can have to send a private message from '
          'within the room'),
    )  # fmt: skip
    subject_level = models.CharField(
        _("Lowest participation level a user can have to change a room's subject"),
        max_length=11, choices={key: LEVELS[key] for key in ('participant', 'moderator')}, default='participant',
        help_text=_('Visitors never can.'),
    )  # fmt: skip
    owners_change_subject_level = _owners(
        _("Room owners can change the lowest participation level a user can have to change a room's subject")
    )
    strip_xhtml = models.BooleanField(
        _('Remove all XHTML formatting from messages'), default=False,
        help_text=_('Rooms pass on the plain text only.'),
    )  # fmt: skip
    owners_change_xhtml = _owners(_('Room owners can change XHTML formatting setting'), False)
    moderated = models.BooleanField(
        _('Rooms are moderated by default'), default=False,
        help_text=_('Only those whom a moderator gave voice can write; visitors read.'),
    )  # fmt: skip
    owners_change_moderated = _owners(_('Room owners can change whether or not rooms are moderated by default'))
    archive_maximum = _whole(
        _('Maximum number of messages that can be retrieved from the archive'), 100, 0, 1000,
        _('What a room keeps for those who enter later. It is gone with the last of them.'),
    )  # fmt: skip
    history_default = _whole(
        _('Number of messages in chat history displayed by default'), 15, 0, 1000,
        _('What a client gets on entering when it asks for no number. Not more than can be retrieved.'),
    )  # fmt: skip
    owners_change_history = _owners(_('Room owners can change the number of messages displayed in chat history'), False)

    class Meta:
        db_table = 'chat_room_settings'
        verbose_name = _('Group Chat and Persistent Chat')


class GroupChatAlias(models.Model):
    """Messaging > Group Chat Server Alias Mapping (guide 7899-7986): a domain of chat rooms, and who hosts it."""

    alias = models.CharField(
        _('Group Chat Server Alias'), max_length=253, unique=True,
        help_text=_('The domain of the rooms, for example newalias.example.com. No users have addresses in it.'),
    )  # fmt: skip
    node = models.ForeignKey(
        'system.Node', models.CASCADE, related_name='chat_aliases', verbose_name=_('Server Name'),
        help_text=_('The node on which rooms with this alias are.'),
    )  # fmt: skip
    primary = models.BooleanField(_('Primary'), default=False, editable=False)
    """Made by the system, which also changes and removes it."""

    class Meta:
        db_table = 'group_chat_alias'
        verbose_name = _('Group Chat Server Alias')
        verbose_name_plural = _('Group Chat Server Aliases')

    def __str__(self) -> str:
        return self.alias


class GroupChatSettings(models.Model):
    """Messaging > Group Chat System Administrators > Settings (guide 5670): one row, id 1."""

    administrators_enabled = models.BooleanField(
        _('Enable Group Chat System Administrators'), default=False,
        help_text=_('When this is on, the people in the list of administrators own every chat room.'),
    )  # fmt: skip

    class Meta:
        db_table = 'group_chat_settings'
        verbose_name = _('Group Chat System Administrators')


class GroupChatAdministrator(models.Model):
    """Messaging > Group Chat System Administrators > Administrators (guide 5674-5684): one person."""

    address = models.CharField(
        _('IM Address'), max_length=1023, unique=True, help_text=_('The address of the person: name@domain.')
    )
    nickname = models.CharField(_('Nickname'), max_length=255, help_text=_('1 to 255 characters.'))
    description = models.CharField(_('Description'), max_length=255, blank=True, help_text=_('At most 255 characters.'))

    class Meta:
        db_table = 'group_chat_administrator'
        verbose_name = _('Group Chat System Administrator')
        verbose_name_plural = _('Group Chat System Administrators')

    def __str__(self) -> str:
        return self.address
