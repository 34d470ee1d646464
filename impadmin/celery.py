"""The Celery application: worker and beat. Queue ``bat`` carries bulk jobs, one at a time; ``default`` the rest."""

import os

from celery import Celery

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'impadmin.settings')

app = Celery('impadmin')
app.config_from_object('django.conf:settings', namespace='CELERY')
app.autodiscover_tasks()
