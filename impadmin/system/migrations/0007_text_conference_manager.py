"""Nodes that exist get Cisco XCP Text Conference Manager activated, as a node that is added does: chat rooms are there
by default (guide 5611)."""

from django.db import migrations


def activate(apps, schema_editor):
    activation = apps.get_model('system', 'ServiceActivation')
    for node in apps.get_model('system', 'Node').objects.all():
        activation.objects.get_or_create(node=node, service='text_conference_manager')


class Migration(migrations.Migration):
    dependencies = [
        ('system', '0006_group_membership'),
    ]

    operations = [
        migrations.RunPython(activate, migrations.RunPython.noop),
    ]
