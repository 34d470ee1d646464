from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ('signin', '0007_saml_keys_and_logout'),
    ]

    operations = [
        migrations.AddField(
            model_name='samlsignon',
            name='encryption_certificate',
            field=models.TextField(blank=True, editable=False),
        ),
        migrations.AddField(
            model_name='samlsignon',
            name='encryption_key',
            field=models.TextField(blank=True, editable=False),
        ),
    ]
