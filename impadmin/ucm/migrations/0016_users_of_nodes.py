from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ('ucm', '0015_phones'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='enduser',
            name='end_user_home_no_32b314_idx',
        ),
        migrations.AddIndex(
            model_name='enduser',
            index=models.Index(fields=['home_node', 'im_enabled', 'active', 'home_cluster'], name='end_user_standing'),
        ),
    ]
