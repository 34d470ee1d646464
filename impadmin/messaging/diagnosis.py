"""Tests of chat rooms for System Troubleshooter (guide 5789, 7938)."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.services import TEXT_CONFERENCE_MANAGER
from impadmin.console.diagnosis import Check, Problem, Section, listed, register
from impadmin.console.facts import Facts
from impadmin.messaging.chat_rooms import hides_people
from impadmin.messaging.models import ChatRoomSettings, GroupChatAdministrator, GroupChatSettings
from impadmin.system.models import Node

SECTION = Section(gettext_lazy('Group Chat'), 45)


def rooms_work_in_jabber(facts: Facts) -> Iterator[Problem]:
    """No setting hides people where Cisco Jabber needs them."""
    row = ChatRoomSettings.objects.filter(pk=1).first()
    if row is not None and (text := hides_people(row)):
        yield Problem(str(text), _('Turn both off, then restart Cisco XCP Text Conference Manager.'), warning=True)


def nodes_have_aliases(facts: Facts) -> Iterator[Problem]:
    """Every node that can host rooms has an address for them."""
    nodes = Node.objects.filter(activations__service=TEXT_CONFERENCE_MANAGER, chat_aliases=None).order_by('name')
    if names := list(nodes.values_list('name', flat=True)):
        text = _('No rooms can be on: %(nodes)s. There is no group chat server alias.') % {'nodes': listed(names)}
        yield Problem(text, _('Add one, or let the system manage the primary aliases.'), warning=True)


def administrators_are_on(facts: Facts) -> Iterator[Problem]:
    """Whoever is listed as an administrator is one."""
    enabled = GroupChatSettings.objects.filter(administrators_enabled=True).exists()
    if not enabled and GroupChatAdministrator.objects.exists():
        text = _('Group chat system administrators are listed, but they are not enabled.')
        yield Problem(text, _('Enable them, or delete the list.'), warning=True)


register(
    Check(name='chat-anonymity', section=SECTION, title=gettext_lazy('Chat rooms work in Cisco Jabber'),
          page='group-chat', run=rooms_work_in_jabber),
    Check(name='chat-aliases', section=SECTION, title=gettext_lazy('Every node has a group chat server alias'),
          page='group-chat-aliases', run=nodes_have_aliases),
    Check(name='chat-administrators', section=SECTION,
          title=gettext_lazy('Listed group chat system administrators are enabled'),
          page='group-chat-administrator-settings', run=administrators_are_on),
)  # fmt: skip
