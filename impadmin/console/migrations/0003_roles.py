"""Roles become rows with permissions; an administrator has one or more."""

import django.db.models.deletion
from django.db import migrations, models

import impadmin.console.models

NAMES = ('administrator', 'operator', 'bulk_operator', 'read_only')


def carry_over(apps, schema_editor):
    """Every administrator and every token keeps its role."""
    Role = apps.get_model('console', 'Role')
    by_name = {name: Role.objects.create(name=name) for name in NAMES}
    for administrator in apps.get_model('console', 'Administrator').objects.all():
        administrator.roles.add(by_name[administrator.role])
    for token in apps.get_model('console', 'ApiToken').objects.all():
        token.role = by_name[token.old_role]
        token.save(update_fields=['role'])


class Migration(migrations.Migration):
    dependencies = [('console', '0002_bulk_work_and_searches')]
    operations = [
        migrations.CreateModel(
            name='Role',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='1 to 50 characters, for example Help desk.', max_length=50, unique=True, verbose_name='Name')),
                ('description', models.CharField(blank=True, help_text='For whom the role is meant, at most 200 characters.', max_length=200, verbose_name='Description')),
                ('permissions', impadmin.console.models.Permissions(blank=True, default=list, help_text='What people with this role may see and do. Every other permission includes View.', validators=[impadmin.console.models._known_permissions], verbose_name='Permissions')),
            ],
            options={'verbose_name': 'Role', 'verbose_name_plural': 'Roles', 'db_table': 'role'},
        ),
        migrations.AddField(
            model_name='administrator',
            name='roles',
            field=models.ManyToManyField(db_table='administrator_role', help_text='Together they decide which pages this user sees and what he may do there.', related_name='administrators', to='console.role', verbose_name='Roles'),
        ),
        migrations.RenameField(model_name='apitoken', old_name='role', new_name='old_role'),
        migrations.AddField(
            model_name='apitoken',
            name='role',
            field=models.ForeignKey(help_text='The token never has more rights than its user.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='tokens', to='console.role', verbose_name='Role'),
        ),
        migrations.RunPython(carry_over, migrations.RunPython.noop),
        migrations.RunSQL('SET CONSTRAINTS ALL IMMEDIATE', migrations.RunSQL.noop),
        migrations.AlterField(
            model_name='apitoken',
            name='role',
            field=models.ForeignKey(help_text='The token never has more rights than its user.', on_delete=django.db.models.deletion.PROTECT, related_name='tokens', to='console.role', verbose_name='Role'),
        ),
        migrations.RemoveField(model_name='apitoken', name='old_role'),
        migrations.RemoveField(model_name='administrator', name='role'),
    ]
