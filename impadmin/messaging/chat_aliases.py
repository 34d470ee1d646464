"""Messaging > Group Chat Server Alias Mapping (guide 7899-7986, 8028-8042)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.contract.services import TEXT_CONFERENCE_MANAGER
from impadmin.console.access import Right
from impadmin.console.page import Column, Fieldset, Help, Page, Text
from impadmin.messaging import names
from impadmin.messaging.models import GroupChatAlias
from impadmin.presence.rules import name_error
from impadmin.system.models import Node


def alias_is_free(entry: GroupChatAlias, before: Any) -> None:
    """A domain name that nothing else has (guide 7982-7983)."""
    entry.alias = entry.alias.strip().lower()
    if error := name_error(entry.alias) or names.taken(entry.alias, entry):
        raise ValidationError({'alias': error})


def managed(entry: GroupChatAlias) -> str | Promise:
    """Why an alias can be neither changed nor deleted, or ''."""
    if not entry.primary:
        return ''
    return gettext_lazy('The system manages this alias. Whether it does: Messaging > Group Chat and Persistent Chat.')


def _impact(before: GroupChatAlias, after: GroupChatAlias | None) -> list[tuple[Text, int | None]]:
    """What happens to the rooms of an alias that goes (guide 8030, 8039-8041)."""
    found: list[tuple[Text, int | None]] = []
    if after is None or after.alias != before.alias:
        text = _('Rooms with addresses at %(alias)s can no longer be reached, and invitations to them lead nowhere.')
        found.append((text % {'alias': before.alias}, None))
        found.append((_('Partners and DNS records that name the alias must be told.'), None))
    elif after.node_id != before.node_id:
        text = _('Rooms with addresses at %(alias)s end on %(node)s; people have to enter them anew.')
        found.append((text % {'alias': before.alias, 'node': before.node}, None))
    others = GroupChatAlias.objects.filter(node=before.node_id).exclude(pk=before.pk)
    if (after is None or after.node_id != before.node_id) and not others.exists():
        found.append((_('%(node)s has no other alias: no rooms can be on it.') % {'node': before.node}, None))
    return found


ALIASES = Page(
    name='group-chat-aliases',
    console='admin',
    area='messaging',
    menu='Messaging > Group Chat Server Alias Mapping',
    right=Right.CONFIGURATION,
    intro=gettext_lazy('The domains of chat rooms, and the node that hosts the rooms of each.'),
    help=Help(
        when=gettext_lazy(
            'When rooms need addresses of their own, beside those that the system makes, and to keep an old alias '
            'after the cluster ID or the default domain has changed.'
        ),
        effect=gettext_lazy(
            'Rooms can be created with the alias on its node. For people at other organisations, publish it in DNS; '
            'for TLS, the certificate needs a wildcard such as *.example.com.'
        ),
        guide='7576-7594, 7899-7986, 8028-8042, 12521',
    ),
    works_through=(TEXT_CONFERENCE_MANAGER,),
    related=('group-chat', 'enterprise-parameters', 'control-center'),
    model=GroupChatAlias,
    queryset=lambda: GroupChatAlias.objects.select_related('node'),
    columns=('alias', Column('node', gettext_lazy('Server Name'), order_by='node__name'), 'primary'),
    find=('alias', 'node'),
    fieldsets=(Fieldset(gettext_lazy('Group Chat Server Alias'), ('alias', 'node')),),
    read_only=('primary',),
    rules=(alias_is_free,),
    locked=managed,
    undeletable=managed,
    derived=Q(primary=True),
    impact=_impact,
    ordering=('-primary', 'alias'),
    tabs=(
        ('primary', gettext_lazy('Primary Group Chat Server Aliases'), Q(primary=True)),
        ('added', gettext_lazy('Group Chat Server Aliases'), Q(primary=False)),
    ),
    configures=True,
    search=('alias',),
    bulk=(),
    sample=lambda n: {'alias': f'rooms-{n}.example.com', 'node': Node.objects.order_by('pk').first()},
    bad={'alias': ('', 'a b', 'a_b.example.com', '-a.example.com', '10.1.1.1', 'räume.example.com')},
)
