"""Primary group chat server aliases: they follow nodes, cluster ID and default domain by themselves (guide 7582-7590,
7942). While the system does not manage them they are aliases like any other."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from engine.contract.chat import system_alias
from impadmin.console.parameter_values import in_force
from impadmin.messaging.models import ChatRoomSettings, GroupChatAlias
from impadmin.presence.models import AdvancedSettings
from impadmin.presence.rules import NOT_SET
from impadmin.system.models import Node, ParameterValue


def follow() -> None:
    """Make the stored primary aliases the right ones. One that an administrator has added becomes primary."""
    if ChatRoomSettings.objects.filter(managed_aliases=False).exists():
        GroupChatAlias.objects.filter(primary=True).update(primary=False)
        return
    right = wanted()
    GroupChatAlias.objects.filter(primary=True).exclude(alias__in=right).delete()
    for alias, node in right.items():
        GroupChatAlias.objects.update_or_create(alias=alias, defaults={'node_id': node, 'primary': True})


def wanted() -> dict[str, int]:
    """alias -> id of its node, as the system makes them; none before there is a default domain."""
    domain = AdvancedSettings.objects.values_list('default_domain', flat=True).filter(pk=1).first() or NOT_SET
    if domain == NOT_SET:
        return {}
    cluster = in_force('', None)['cluster_id']
    return {system_alias(node, cluster, domain): node for node in Node.objects.values_list('pk', flat=True)}


@receiver((post_save, post_delete), sender=Node)
@receiver((post_save, post_delete), sender=ParameterValue)
@receiver(post_save, sender=AdvancedSettings)
@receiver(post_save, sender=ChatRoomSettings)
def _follow(sender: Any, instance: Any, **_: Any) -> None:
    if sender is not ParameterValue or instance.name == 'cluster_id':
        follow()
