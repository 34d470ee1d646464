"""Parameters of Cisco DirSync (guide 2809-2840)."""

from __future__ import annotations

from engine.contract.params import Param

_HOSTS = 'LDAP Servers'

DIRSYNC_PARAMS = (
    Param(
        'max_agreements',
        20,
        'Maximum Number of Agreements',
        'LDAP directories that may be configured. Those above a lowered limit stay.',
        low=1,
        high=20,
    ),
    Param(
        'max_hosts',
        3,
        'Maximum Number of Hosts',
        'Servers of one LDAP directory, tried in their order.',
        low=1,
        high=3,
        section=_HOSTS,
    ),
    Param(
        'host_retry_delay_s',
        5,
        'Retry Delay on Host Failure',
        'A server that does not answer is tried three times, with this pause, before the next one.',
        low=5,
        high=60,
        unit='seconds',
        section=_HOSTS,
    ),
    Param(
        'hostlist_retry_delay_m',
        10,
        'Retry Delay on HostList Failure',
        'When no server answered, the synchronization begins again after this time.',
        low=10,
        high=120,
        unit='minutes',
        section=_HOSTS,
    ),
    Param(
        'ldap_timeout_s',
        5,
        'LDAP Connection Timeout',
        'An attempt to connect, and each answer, may take so long. Holds for sign-ins by LDAP, too.',
        low=1,
        high=300,
        unit='seconds',
        section=_HOSTS,
    ),
    Param(
        'delayed_start_m',
        5,
        'Delayed Sync Start Time',
        'After Cisco DirSync has started, synchronizations that are due wait so long.',
        low=5,
        high=60,
        unit='minutes',
    ),
)
