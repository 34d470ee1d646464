"""The certificate by which a node is known to the other nodes of its cluster (decision 0011)."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ('system', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='node',
            name='link_certificate',
            field=models.TextField(blank=True, default='', editable=False),
        ),
    ]
