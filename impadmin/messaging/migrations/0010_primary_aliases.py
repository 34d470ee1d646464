"""Nodes that exist get their primary group chat server alias, as a node that is added does (guide 7582-7588)."""

from django.db import migrations

DEFAULT = 'StandAloneCluster'
NOT_SET = 'DOMAIN.NOT.SET'


def add(apps, schema_editor):
    domain = apps.get_model('presence', 'AdvancedSettings').objects.values_list('default_domain', flat=True).first()
    parameters = apps.get_model('system', 'ParameterValue').objects.filter(service='', name='cluster_id')
    cluster = parameters.values_list('value', flat=True).first() or DEFAULT
    if domain in (None, NOT_SET):
        return
    for node in apps.get_model('system', 'Node').objects.all():
        apps.get_model('messaging', 'GroupChatAlias').objects.get_or_create(
            alias=f'conference-{node.pk}-{cluster}.{domain}'.lower(), defaults={'node': node, 'primary': True}
        )


class Migration(migrations.Migration):
    dependencies = [
        ('messaging', '0009_group_chat_rooms'),
        ('presence', '0012_trust_store_help'),
        ('system', '0007_text_conference_manager'),
    ]

    operations = [
        migrations.RunPython(add, migrations.RunPython.noop),
    ]
