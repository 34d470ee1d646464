"""Every node that exists is in a redundancy group: the publisher in the default one, the others each in its own."""

import re

from django.db import migrations


def nodes_into_groups(apps, schema_editor):
    group = apps.get_model('system', 'RedundancyGroup')
    taken = set()
    for node in apps.get_model('system', 'Node').objects.order_by('-publisher', 'pk'):
        stem = re.sub(r'[^A-Za-z0-9_-]', '-', node.name)[:120] if taken else 'DefaultCUPSubcluster'
        name = next(
            name for name in (stem if n == 1 else f'{stem}-{n}' for n in range(1, 100)) if name.lower() not in taken
        )
        group.objects.create(name=name, server1=node, automatic=bool(taken))
        taken.add(name.lower())


class Migration(migrations.Migration):
    dependencies = [
        ('system', '0004_redundancy_groups'),
    ]

    operations = [
        migrations.RunPython(nodes_into_groups, migrations.RunPython.noop),
    ]
