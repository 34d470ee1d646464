"""Messaging > Settings (guide 5574-5589)."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.page import Fieldset, Help, SettingsPage, Text
from impadmin.console.registry import register
from impadmin.messaging import chat_administrators, chat_aliases, chat_rooms, primary_aliases, session_reports
from impadmin.messaging.components import COMPONENTS
from impadmin.messaging.models import MessagingSettings, OfflineMessage
from impadmin.ucm.models import EndUser


def _impact(before: MessagingSettings, after: MessagingSettings) -> list[tuple[Text, int]]:
    """Who notices."""
    found: list[tuple[Text, int]] = []
    if before.im_enabled and not after.im_enabled:
        users = EndUser.objects.filter(im_enabled=True, active=True, home_node__isnull=False).count()
        found.append((_('users can no longer send instant messages'), users))
    if not before.suppress_offline and after.suppress_offline:
        users = OfflineMessage.objects.values('user').distinct().count()
        found.append((_('users have stored messages; these are still delivered'), users))
    return found


SETTINGS = SettingsPage(
    name='messaging-settings',
    console='admin',
    area='messaging',
    menu='Messaging > Settings',
    title=gettext_lazy('Settings'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('What instant messaging does for everybody in the cluster.'),
    help=Help(
        when=gettext_lazy(
            'To switch instant messaging off, or to decide what happens to messages for people who are not signed in.'
        ),
        effect=gettext_lazy(
            'With instant messaging off, messages are refused with an error to the sender; availability still works.'
        ),
        guide='5486-5488, 5574-5589, 12527',
    ),
    related=('standard-configuration', 'control-center'),
    model=MessagingSettings,
    fieldsets=(
        Fieldset(gettext_lazy('Instant messaging'), ('im_enabled', 'suppress_offline')),
        Fieldset(gettext_lazy('Clients'), ('client_history', 'cut_and_paste')),
    ),
    impact=_impact,
)
register(
    SETTINGS,
    chat_rooms.SETTINGS,
    chat_aliases.ALIASES,
    chat_administrators.SETTINGS,
    chat_administrators.ADMINISTRATORS,
    COMPONENTS,
    *session_reports.PAGES,
)
__all__ = ['primary_aliases']
