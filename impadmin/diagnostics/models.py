"""What nodes report of their load, written by the engine (engine/store/samples.py)."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class NodeSample(models.Model):
    """One slot of one ring of one node: ``seconds`` measured within the ``step`` seconds from ``at`` on."""

    pk = models.CompositePrimaryKey('node', 'step', 'slot')
    node = models.ForeignKey('system.Node', models.CASCADE, related_name='samples', db_index=False)
    step = models.SmallIntegerField()
    slot = models.SmallIntegerField()
    at = models.DateTimeField()
    seconds = models.FloatField()
    sessions = models.IntegerField()
    users_online = models.IntegerField()
    queued_writes = models.IntegerField()
    """Most writes to the database that waited in the router."""
    queued_bytes = models.BigIntegerField()
    """Most bytes that waited for other nodes."""
    lag_ms = models.FloatField()
    messages = models.BigIntegerField()
    """Messages of clients within ``seconds``; sign-ins and failures likewise."""
    logins = models.BigIntegerField()
    login_failures = models.BigIntegerField()
    peak = models.FloatField()
    """Messages per second in its busiest sample."""

    class Meta:
        db_table = 'node_sample'
        verbose_name_plural = _('Samples')
