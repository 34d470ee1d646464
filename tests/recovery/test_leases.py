"""What a node does with its lease when the database or a name server keeps it waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.cluster import ownership
from engine.cluster.ownership import NotOwner, Ownership
from engine.contract.config import RedundancyGroup
from engine.recovery.records import Settings
from engine.services.server_recovery_manager.pair import Pair

SETTINGS = Settings(interval_s=0.01, timeout_s=1.0, init_s=1.0, critical_s=1.0)


def node(tmp_path: Path) -> Any:
    """A node as far as it is asked here: one of two, the other one has a name for an address."""
    nodes = (SimpleNamespace(id=1, name='one', address='127.0.0.1'), SimpleNamespace(id=2, name='two', address='two'))
    return SimpleNamespace(
        id=1, name='one', var=tmp_path, store=None, config=SimpleNamespace(nodes=nodes),
        started_at=SimpleNamespace(isoformat=lambda: ''), service=lambda key: None,
    )  # fmt: skip


def test_nothing_is_served_when_the_lease_ended_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database answers late: another node may have taken the set. With a lease it is served."""

    async def play(lease_s: float) -> set[int]:
        async def late(*_: Any) -> dict[int, int]:
            await asyncio.sleep(0.1)
            return {1: 5}

        async def owners(_store: Any) -> list[tuple[int, int, int]]:
            return [(1, 1, 7)]

        monkeypatch.setattr(ownership.status, 'assigned_users', late)
        monkeypatch.setattr(ownership.store, 'owners', owners)
        found = Ownership(node(tmp_path))
        found._protected, found.frozen = True, {1}
        found.renewed(asyncio.get_running_loop().time() + lease_s)
        try:
            await found.adopt(1, 7, lambda done, total: None)
        except NotOwner:
            assert not found.served
        return found.served

    assert asyncio.run(play(0.05)) == set()
    assert asyncio.run(play(5.0)) == {1}


def test_leases_wait_for_no_name_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name server answers: the leases are renewed all the same."""

    async def play() -> int:
        rounds = 0

        async def never(*_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

        async def keep() -> None:
            nonlocal rounds
            rounds += 1

        service = SimpleNamespace(node=node(tmp_path), param=lambda name: 22001)
        pair = Pair(service, RedundancyGroup(id=7, name='g', nodes=(1, 2), ha=True), SETTINGS)  # type: ignore[arg-type]
        monkeypatch.setattr(asyncio.get_running_loop(), 'getaddrinfo', never)
        monkeypatch.setattr(pair, 'keep', keep)
        tasks = [asyncio.create_task(pair._find_peer()), asyncio.create_task(pair._keep())]
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return rounds

    assert asyncio.run(play()) > 3
