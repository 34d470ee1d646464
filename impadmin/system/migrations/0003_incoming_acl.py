from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ('system', '0002_node_links'),
    ]

    operations = [
        migrations.CreateModel(
            name='IncomingAcl',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                (
                    'description',
                    models.CharField(help_text='1 to 128 characters.', max_length=128, verbose_name='Description'),
                ),
                (
                    'address_pattern',
                    models.CharField(
                        help_text='An IP address, a network such as 192.0.2.0/24, a host or domain name, or ALL.',
                        max_length=255,
                        unique=True,
                        verbose_name='Address Pattern',
                    ),
                ),
            ],
            options={
                'verbose_name': 'Incoming ACL',
                'verbose_name_plural': 'Incoming ACLs',
                'db_table': 'incoming_acl',
            },
        ),
    ]
