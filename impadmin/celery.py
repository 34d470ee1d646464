"""The Celery application: worker and beat. Queue ``bat`` carries bulk jobs, one at a time; ``default`` the rest."""

import logging
import os

from celery import Celery

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'impadmin.settings')

app = Celery('impadmin')
app.config_from_object('django.conf:settings', namespace='CELERY')
app.autodiscover_tasks()

# Every wake-up of a worker would be two lines; what a job does is said by the job.
for _name in ('celery.app.trace', 'celery.worker.strategy'):
    logging.getLogger(_name).setLevel(logging.WARNING)
