"""Alarms of high availability: what began, what is complete, what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.contract.messages import message
from engine.contract.recovery import BACKUP, State, Text
from engine.recovery.records import Record

if TYPE_CHECKING:
    from engine.node import Node
    from engine.services.server_recovery_manager.pair import Pair

FAILOVER, FAILOVER_DONE = 'SRMFailoverStarted', 'SRMFailoverCompleted'
FALLBACK, FALLBACK_DONE = 'SRMFallbackStarted', 'SRMFallbackCompleted'
FAILED, PEER_DOWN, CRITICAL = 'SRMFailed', 'SRMPeerDown', 'CriticalServiceDown'
ALARMS = (FAILOVER, FALLBACK, FAILED, PEER_DOWN, CRITICAL)
TAKES = {State.TAKING_OVER, State.BACKUP_ACTIVATED}


def changed(pair: Pair, before: Record, after: Record) -> None:
    """A transition begins or ends. The node that takes the users tells."""
    node, values = pair.node, _values(pair, after)
    exchanged = values | {'node': pair.peer_name, 'peer': node.name}
    if after.state in TAKES and before.state is not after.state:
        node.raise_alarm(FAILOVER, message(Text.FAILOVER_STARTED, **exchanged), 'Medium')
    elif after.state is State.TAKING_BACK:
        node.raise_alarm(FALLBACK, message(Text.FALLBACK_STARTED, **values), 'Medium')
    if after.state in BACKUP and not after.step:
        node.clear_alarm(FAILOVER, FAILOVER_DONE, message(Text.FAILOVER_COMPLETED, **exchanged))
    elif after.state is State.NORMAL:
        node.clear_alarm(FALLBACK, FALLBACK_DONE, message(Text.FALLBACK_COMPLETED, **values))
    if after.state is State.FAILED:
        node.clear_alarm(FAILOVER)
        node.clear_alarm(FALLBACK)
        node.raise_alarm(FAILED, message(Text.FAILED, **values))
    else:
        node.clear_alarm(FAILED)


def level(pair: Pair, now: float) -> None:
    """What is so at this moment."""
    node, machine = pair.node, pair.machine
    values = _values(pair, machine.record)
    if machine.lost(now):
        node.raise_alarm(PEER_DOWN, message(Text.PEER_DOWN, **values))
    else:
        node.clear_alarm(PEER_DOWN)
    if machine.fault(now) and machine.record.state is not State.IDLE:
        node.raise_alarm(CRITICAL, message(Text.CRITICAL_DOWN, **values, services=pair.names(machine.down)))
    else:
        node.clear_alarm(CRITICAL)


def clear(node: Node) -> None:
    """Nobody watches any more."""
    for name in ALARMS:
        node.clear_alarm(name)


def _values(pair: Pair, record: Record) -> dict[str, Any]:
    return {'group': pair.group.name, 'node': pair.node.name, 'peer': pair.peer_name, 'reason': record.reason}
