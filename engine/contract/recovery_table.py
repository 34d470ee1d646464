"""Cause and recommended action for each pair of states (guide 2266-2307; numbers of spec 02, section 7).

Rows whose number begins with D are not printed in the guide: pairs that follow from its rules, worded like its rows.
The first row that fits is shown, with the nodes exchanged if need be, so the general rows stand last.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.recovery_words import Reason as R
from engine.contract.recovery_words import State as S


@dataclass(frozen=True, slots=True)
class Row:
    """``node1`` and ``node2``: states and reasons the row is for; no reasons means any, no states means any."""

    id: str
    node1: tuple[tuple[S, ...], tuple[R, ...]]
    node2: tuple[tuple[S, ...], tuple[R, ...]]
    cause: str
    steps: tuple[str, ...] = ()

    def matches(self, node1: tuple[S, R], node2: tuple[S, R]) -> bool:
        """Whether the row is for this pair, in this order."""
        return all(
            (not states or state in states) and (not reasons or reason in reasons)
            for (states, reasons), (state, reason) in ((self.node1, node1), (self.node2, node2))
        )


_BACKUP = (S.RUNNING_IN_BACKUP_MODE,)
_FAILED = (S.FAILED,)
_FAILING, _TAKING = (S.FAILING_OVER,), (S.TAKING_OVER,)
_BACK, _FALLING = (S.TAKING_BACK,), (S.FALLING_BACK,)
_OVER, _CRITICAL = (S.FAILED_OVER,), (S.FAILED_OVER_CRITICAL,)
_DOWN = (S.NOT_RESPONDING,)
_ADMIN, _INIT, _AUTO = (R.ADMIN,), (R.INITIALIZATION,), (R.AUTOMATIC_FALLBACK,)
_SERVICE, _DATABASE, _UNKNOWN = (R.CRITICAL_DOWN,), (R.DATABASE,), (R.UNKNOWN,)
_LOST_SERVICE = (R.AUTO_CRITICAL,)
_ANY: tuple[()] = ()

_FALLBACK = 'Use Fallback on %(node1)s to bring both nodes to Normal.'
_WHEN_RUNNING = 'When all critical services of %(node1)s run, use Fallback on it.'
_START = 'Look for stopped critical services on %(node1)s and start them.'
_REBOOT_1 = 'If they do not start, restart %(node1)s.'
_REPAIR = 'Repair %(node1)s and start it.'
_RECOVER = 'Use Recover.'
_PERSISTS = 'If the problem stays, restart the nodes.'

ROWS: tuple[Row, ...] = (
    Row('R01', ((S.NORMAL,), _ANY), ((S.NORMAL,), _ANY), 'Both nodes work normally. Nothing is to be done.'),
    Row(
        'R02', (_FAILING, _ADMIN), (_TAKING, _ADMIN),
        'An administrator moves the users of %(node1)s to %(node2)s. The failover is in progress.',
    ),
    Row(
        'R03', ((S.IDLE,), _ADMIN), (_BACKUP, _ADMIN),
        'The failover from %(node1)s to %(node2)s that an administrator started is complete.',
    ),
    Row(
        'R04', (_BACK, _ADMIN), (_FALLING, _ADMIN),
        'An administrator moves the users of %(node1)s back from %(node2)s. The fallback is in progress.',
    ),
    Row(
        'R05', ((S.IDLE,), _INIT), (_BACKUP, _ADMIN),
        'Cisco Server Recovery Manager on %(node1)s was restarted while %(node1)s was Idle.',
    ),
    Row(
        'R06', ((S.IDLE,), _INIT), (_BACKUP, _INIT),
        'Both nodes, or Cisco Server Recovery Manager on both, were restarted while the users of %(node1)s were failed '
        'over by an administrator.',
    ),
    Row(
        'R07', ((S.IDLE,), _ADMIN), (_BACKUP, _INIT),
        'Cisco Server Recovery Manager on %(node2)s was restarted while %(node2)s ran in backup mode.',
    ),
    Row(
        'R08', (_FAILING, _ADMIN), (_TAKING, _INIT),
        'Cisco Server Recovery Manager on %(node2)s was restarted while it took over the users of %(node1)s. The '
        'failover goes on.',
    ),
    Row(
        'R09', (_BACK, _INIT), (_FALLING, _ADMIN),
        'Cisco Server Recovery Manager on %(node1)s was restarted while it took its users back. The fallback goes on; '
        'when it is complete both nodes are Normal.',
    ),
    Row(
        'R10', (_BACK, _AUTO), (_FALLING, _AUTO),
        'The automatic fallback of the users of %(node1)s from %(node2)s is in progress.',
    ),
    Row(
        'R11', (_OVER, (R.INITIALIZATION, R.CRITICAL_DOWN)), (_BACKUP, _SERVICE),
        'The critical services of %(node1)s run again: the node was restarted or an administrator started them.',
        ('%(node1)s is ready. ' + _FALLBACK,),
    ),
    Row(
        'R12', (_CRITICAL, _SERVICE), (_BACKUP, _SERVICE),
        'A critical service on %(node1)s is down. Its users were moved to %(node2)s automatically.',
        (_START, _REBOOT_1, _WHEN_RUNNING),
    ),
    Row(
        'R13', (_CRITICAL, _DATABASE), (_BACKUP, _DATABASE),
        '%(node1)s lost its database. Its users were moved to %(node2)s automatically.',
        ('Restart %(node1)s.', _WHEN_RUNNING),
    ),
    Row(
        'R14', (_FAILED, (R.START_FAILED,)), (_FAILED, (R.START_FAILED,)),
        'Critical services did not start while a node took its users back.',
        (
            'Look for stopped critical services on the node that took its users back and use Recover to start them.',
            'If they do not start, restart that node.',
            'When all critical services run after the restart, use Fallback.',
        ),
    ),
    Row(
        'R15', (_FAILED, _SERVICE), (_FAILED, _SERVICE),
        'Critical services went down on the node that ran in backup mode. Both nodes failed.',
        (
            'Look for stopped critical services on the backup node and use Recover to start them.',
            'If they do not start, restart that node.',
        ),
    ),
    Row(
        'R16', ((*_DOWN, *_CRITICAL, *_OVER), _ANY), (_BACKUP, (R.PEER_DOWN,)),
        '%(node2)s heard nothing of %(node1)s any more. The users of %(node1)s were moved to %(node2)s automatically.',
        (
            'If %(node1)s is up, repair the network between the nodes. Should both nodes then be in failed mode, use '
            'Recover.',
            'Start Cisco Server Recovery Manager on %(node1)s.',
            'If %(node1)s is down, repair it and start it.',
            _WHEN_RUNNING,
        ),
    ),
    Row(
        'R17', ((*_DOWN, *_CRITICAL, *_OVER), _ANY), (_BACKUP, (R.PEER_REBOOT,)),
        '%(node1)s lost power, broke down, was shut down or restarted. Its users were moved to %(node2)s '
        'automatically.',
        (_REPAIR, _WHEN_RUNNING),
    ),
    Row(
        'R18', ((*_DOWN, *_CRITICAL, *_OVER), _ANY), (_BACKUP, (R.PEER_DOWN_INIT,)),
        '%(node2)s did not hear %(node1)s when it started.',
        (_WHEN_RUNNING,),
    ),
    Row(
        'R19', (_FAILED, (R.TAKE_OVER_FAILED,)), (_FAILED, (R.TAKE_OVER_FAILED,)),
        'Users could not be moved during the failover, possibly because of a database error.',
        (_RECOVER, _PERSISTS),
    ),
    Row(
        'R20', (_FAILED, (R.TAKE_BACK_FAILED,)), (_FAILED, (R.TAKE_BACK_FAILED,)),
        'Users could not be moved during the fallback, possibly because of a database error.',
        (_RECOVER, _PERSISTS),
    ),
    Row(
        'R21', (_FAILED, _UNKNOWN), (_FAILED, _UNKNOWN),
        'Cisco Server Recovery Manager on one node was restarted while the other node was in failed mode, or there was '
        'an internal error.',
        (_RECOVER, _PERSISTS),
    ),
    Row(
        'R22', ((S.BACKUP_ACTIVATED,), (R.AUTO_DATABASE,)), ((S.FAILOVER_AFFECTED,), (R.AUTO_DATABASE,)),
        '%(node2)s lost its database while it ran in backup mode. %(node1)s could serve all users of the group; they '
        'were moved to it automatically.',
    ),
    Row(
        'R23', ((S.BACKUP_ACTIVATED,), _LOST_SERVICE), ((S.FAILOVER_AFFECTED,), _LOST_SERVICE),
        'A critical service on %(node2)s went down while it ran in backup mode. %(node1)s could serve all users of the '
        'group; they were moved to it automatically.',
        ('Look for stopped critical services on %(node2)s and start them.',),
    ),
    Row(
        'R24', ((S.UNKNOWN,), _ANY), ((), _ANY),
        'The state is not known. High availability is probably not properly enabled on a node.',
        ('Restart Cisco Server Recovery Manager on both nodes of the group.',),
    ),
    # not printed in the guide
    Row(
        'D01', (_FAILED, _DATABASE), (_FAILED, _DATABASE),
        'The database failed and neither node could serve the users of the other.',
        ('Repair the database.', _RECOVER),
    ),
    Row('D02', (_FAILED, _ANY), (_ANY, _ANY), '%(node1)s runs in failed mode.', (_RECOVER, _PERSISTS)),
    Row(
        'D03', (_FAILING, _ANY), (_ANY, _ANY),
        'The automatic failover from %(node1)s to %(node2)s is in progress.',
    ),
    Row('D04', (_TAKING, _ANY), (_ANY, _ANY), '%(node1)s takes over the users of %(node2)s.'),
    Row(
        'D05', (_BACK, _ANY), (_ANY, _ANY),
        'The fallback of the users of %(node1)s from %(node2)s is in progress.',
    ),
    Row('D06', (_FALLING, _ANY), (_ANY, _ANY), '%(node1)s gives the users of %(node2)s back.'),
    Row(
        'D07', ((S.IDLE,), _ANY), (_ANY, _ANY),
        'The users of %(node1)s were failed over by an administrator.',
        ('To end this, use Fallback on %(node1)s.',),
    ),
    Row('D08', (_OVER, _ANY), (_ANY, _ANY), 'The critical services of %(node1)s run again.', (_FALLBACK,)),
    Row(
        'D09', (_CRITICAL, _ANY), (_ANY, _ANY), 'Critical services of %(node1)s do not run.',
        (_START, _REBOOT_1, _WHEN_RUNNING),
    ),
    Row(
        'D10', ((S.FAILOVER_AFFECTED,), _ANY), (_ANY, _ANY), 'Critical services of %(node1)s do not run.',
        (_START, _REBOOT_1, _WHEN_RUNNING),
    ),
    Row('D11', (_DOWN, _ANY), (_ANY, _ANY), 'Nothing is heard of %(node1)s.', (_REPAIR, _WHEN_RUNNING)),
    Row(
        'D12', ((S.INITIALIZING,), _ANY), (_ANY, _ANY),
        'Cisco Server Recovery Manager on %(node1)s has started and waits for the other node.',
    ),
    Row('D13', (_ANY, _ANY), (_ANY, _ANY), 'The nodes exchange their states.'),
)  # fmt: skip
