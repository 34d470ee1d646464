"""Cisco Certificate Expiry Monitor: when it looks, of what it tells, and how often."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from engine.node import Node
from engine.services.certificate_expiry_monitor import DAY_S, HOUR_S, CertificateExpiryMonitor
from tests.areas.xmpp_fixtures import command
from tests.fixtures import data
from tests.fixtures.processes import Engine, wait_until
from tests.fixtures.servers import environment
from tests.proves import proves

SERVICE = 'certificate_expiry_monitor'


def certificate(name: str, ends_at: datetime, kind: str = 'identity', node: str = data.NODE) -> Any:
    """A row that ends then."""
    from impadmin.osadmin.models import Certificate
    from impadmin.system.models import Node as Row

    return Certificate.objects.create(
        name=name, kind=kind, node=Row.objects.get(name=node) if node else None, origin='uploaded',
        common_name=f'CN of {name}', ends_at=ends_at, fingerprint=name,
    )  # fmt: skip


def alarms() -> dict[str, list[bool]]:
    """Text -> whether each alarm with it is open, oldest first."""
    from engine.contract import messages
    from impadmin.system.models import Alarm

    found: dict[str, list[bool]] = {}
    for alarm in Alarm.objects.filter(name__startswith='Cert').order_by('id'):
        found.setdefault(f'{alarm.name.partition(":")[0]}: {messages.decode(alarm.text, str)}', []).append(
            alarm.cleared_at is None
        )
    return found


def run(*times: datetime, tmp_path: Path) -> list[float]:
    """One monitor that is woken at these times, with the newest configuration; how long it waits each time."""
    from impadmin.console import generations
    from impadmin.system.models import Node as Row

    row, servers = Row.objects.get(name=data.NODE), environment()
    config, pending, waits = generations.newest(), list(times), list[float]()

    class Monitor(CertificateExpiryMonitor):
        async def sleep(self, seconds: float) -> None:  # type: ignore[override]
            await self.node.record()
            waits.append(seconds)
            if not pending:
                await asyncio.Future()

        def clock(self) -> datetime:
            return pending.pop(0)

    async def work() -> None:
        node = Node(data.NODE, servers['DATABASE_URL'], servers['REDIS_URL'], tmp_path)
        assert config is not None
        node.id, node.publisher, node.config = row.pk, True, config
        await node.store.open()
        monitor = Monitor(node)
        await monitor.start()
        async with asyncio.timeout(40):
            while len(waits) <= len(times):
                await asyncio.sleep(0.01)
        monitor.cancel_tasks()
        await node.store.close()
        await node.redis.aclose()

    asyncio.run(work())
    return waits


@proves('MON-03')
def test_when_it_looks_and_how_often_it_tells(api: Any, tmp_path: Path) -> None:
    now = timezone.now()
    certificate('cup-xmpp', now + timedelta(days=20))
    certificate('tomcat', now + timedelta(days=31))
    day = timedelta(days=1)
    ends = f'{now + 20 * day:%Y-%m-%d %H:%M} UTC'
    text = f'CertExpiryApproaching: The certificate cup-xmpp (CN of cup-xmpp) expires on {ends}.'
    assert run(now, now + day, now + 6 * day, tmp_path=tmp_path) == [DAY_S] * 4, 'a day also at the start'
    assert alarms()[text] == [True]
    assert len(alarms()) == 2, 'the second is within 30 days by now'
    assert run(now + 8 * day, now + 8 * day + timedelta(hours=1), tmp_path=tmp_path) == [DAY_S] * 3
    assert alarms()[text] == [True], 'once a week; another process opens no second alarm'
    assert run(now + 10 * day, now + 18 * day, now + 19 * day + timedelta(minutes=5), tmp_path=tmp_path) == [
        DAY_S, DAY_S, DAY_S, HOUR_S
    ]  # fmt: skip
    assert alarms()[text] == [False, True], 'told again after a week'

    assert (
        api('administrator').patch('/api/v1/certificate-monitor/', {'frequency': 2, 'unit': 'hours'}).status_code == 200
    )
    hours = [now + 21 * day + timedelta(hours=n) for n in range(5)]
    assert run(*hours, tmp_path=tmp_path) == [DAY_S, *[HOUR_S] * 5]
    expired = [text for text in alarms() if text.startswith('CertExpired: The certificate cup-xmpp')]
    assert alarms()[expired[0]] == [False, False, True]


def test_what_was_replaced_is_told_of_no_longer(db: None, tmp_path: Path) -> None:
    now = timezone.now()
    row = certificate('cup-xmpp-trust', now + timedelta(hours=23), 'trust', '')
    certificate('cup', now - timedelta(days=2))
    waits = run(now, tmp_path=tmp_path)
    assert waits == [DAY_S, HOUR_S]
    assert sorted(text.partition(' (')[0] for text in alarms()) == [
        'CertExpired: The certificate cup', 'CertExpiryApproaching: The certificate cup-xmpp-trust',
    ]  # fmt: skip
    row.delete()


@proves('MON-02')
def test_it_runs_from_the_start(engine: Engine, api: Any) -> None:
    def state() -> str:
        found = api('operator').get('/api/v1/control-center/').json()['services']
        return next(one['state'] for one in found if one['service'] == SERVICE)

    wait_until(lambda: state() == 'Running', 'it runs')
    command('stop', SERVICE)
    assert state() == 'Stopped'
    command('start', SERVICE)
    assert state() == 'Running'
