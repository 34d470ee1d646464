import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ('presence', '0006_xmpp_federation'),
    ]

    operations = [
        migrations.CreateModel(
            name='PresenceGateway',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                (
                    'type',
                    models.CharField(
                        choices=[('cucm', 'CUCM'), ('ews', 'Exchange -- EWS Server'), ('office365', 'Office 365')],
                        default='cucm',
                        help_text='CUCM: the state of phones. Exchange and Office 365: the state of meetings.',
                        max_length=10,
                        verbose_name='Presence Gateway Type',
                    ),
                ),
                (
                    'description',
                    models.CharField(help_text='1 to 128 characters.', max_length=128, verbose_name='Description'),
                ),
                (
                    'address',
                    models.CharField(
                        help_text='IP address, FQDN, or a DNS SRV name that resolves to the servers.',
                        max_length=255,
                        unique=True,
                        verbose_name='Presence Gateway',
                    ),
                ),
                (
                    'port',
                    models.PositiveIntegerField(
                        default=443,
                        help_text='1 to 65535. Not used with the type CUCM.',
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(65535),
                        ],
                        verbose_name='Exchange server port',
                    ),
                ),
            ],
            options={
                'verbose_name': 'Presence Gateway',
                'verbose_name_plural': 'Presence Gateways',
                'db_table': 'presence_gateway',
            },
        ),
    ]
