from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ('presence', '0011_intercluster_peers'),
    ]

    operations = [
        migrations.AlterField(
            model_name='xmppfederationsettings',
            name='require_certificates',
            field=models.BooleanField(
                default=False,
                help_text='With TLS, a server is refused unless its certificate is for its domain and from an authority that is trusted here: upload the certificates of these authorities to cup-xmpp-trust first.',
                verbose_name='Require client-side security certificates',
            ),
        ),
    ]
