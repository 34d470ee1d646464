from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ('messaging', '0003_external_component'),
    ]

    operations = [
        migrations.CreateModel(
            name='GroupChatAdministrator',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                (
                    'address',
                    models.CharField(
                        help_text='The address of the person: name@domain.',
                        max_length=1023,
                        unique=True,
                        verbose_name='IM Address',
                    ),
                ),
                (
                    'nickname',
                    models.CharField(help_text='1 to 255 characters.', max_length=255, verbose_name='Nickname'),
                ),
                (
                    'description',
                    models.CharField(
                        blank=True, help_text='At most 255 characters.', max_length=255, verbose_name='Description'
                    ),
                ),
            ],
            options={
                'verbose_name': 'Group Chat System Administrator',
                'verbose_name_plural': 'Group Chat System Administrators',
                'db_table': 'group_chat_administrator',
            },
        ),
        migrations.CreateModel(
            name='GroupChatSettings',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                (
                    'administrators',
                    models.BooleanField(
                        default=False,
                        help_text='When this is on, the people in the list of administrators own every chat room.',
                        verbose_name='Enable Group Chat System Administrators',
                    ),
                ),
            ],
            options={
                'verbose_name': 'Group Chat System Administrators',
                'db_table': 'group_chat_settings',
            },
        ),
    ]
