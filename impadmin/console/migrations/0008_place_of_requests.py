"""Requests for approval know the page they are about, entries about signing in theirs."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [('console', '0007_administrator_origin')]

    operations = [
        migrations.AddField(
            model_name='approvalrequest',
            name='place',
            field=models.CharField(blank=True, db_default='', editable=False, max_length=200),
        ),
        migrations.RunSQL(
            "UPDATE audit_entry SET page = 'User Management > Sign-In History'"
            " WHERE object_type = 'signin.SignIn' AND page = ''",
            migrations.RunSQL.noop,
        ),
    ]
