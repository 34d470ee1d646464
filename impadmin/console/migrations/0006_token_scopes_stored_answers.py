"""Tokens name what they may do instead of a role; answers to writes with an Idempotency-Key."""

from django.db import migrations, models

import impadmin.console.models


def carry_over(apps, schema_editor):
    """Every token may what its role allowed."""
    from impadmin.console.roles import BUILT_IN

    for token in apps.get_model('console', 'ApiToken').objects.select_related('role'):
        role = token.role
        token.scopes = sorted(BUILT_IN[role.name][1] if role.name in BUILT_IN else role.permissions)
        token.save(update_fields=['scopes'])


class Migration(migrations.Migration):
    dependencies = [('console', '0005_history_and_approvals')]
    operations = [
        migrations.CreateModel(
            name='StoredAnswer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=64, unique=True)),
                ('owner', models.CharField(max_length=150)),
                ('request', models.CharField(max_length=64)),
                ('status', models.PositiveSmallIntegerField()),
                ('headers', models.JSONField(default=dict)),
                ('content', models.TextField()),
                ('at', models.DateTimeField(auto_now_add=True, db_index=True)),
            ],
            options={
                'verbose_name_plural': 'Stored answers',
                'db_table': 'stored_answer',
                'indexes': [models.Index(fields=['owner', '-at'], name='stored_answer_owner')],
            },
        ),
        migrations.AddField(
            model_name='apitoken',
            name='scopes',
            field=impadmin.console.models.Permissions(
                default=list,
                help_text=(
                    'What the token may do. It never may more than its user: All pages, Everything is all he may.'
                ),
                validators=[impadmin.console.models._known_permissions],
                verbose_name='Scope',
            ),
        ),
        migrations.RunPython(carry_over, migrations.RunPython.noop),
        migrations.RunSQL('SET CONSTRAINTS ALL IMMEDIATE', migrations.RunSQL.noop),
        migrations.RemoveField(model_name='apitoken', name='role'),
    ]
