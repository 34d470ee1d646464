"""Parameters of Cisco Intercluster Sync Agent (guide 5303-5357)."""

from __future__ import annotations

from engine.contract.params import Param

_SECTION = 'General Inter Cluster Sync Agent Parameters'

INTERCLUSTER_SYNC_PARAMS = (
    Param(
        'auto_recovery',
        'disabled',
        'Enable Auto Recovery for Inter Cluster Peer Periodic Syncing Failure',
        'A peer that could not be synchronised for two hours raises an alarm in any case. Enabled: after four '
        'intervals the service is restarted, too.',
        choices=(('enabled', 'Enabled'), ('disabled', 'Disabled')),
        section=_SECTION,
    ),
    Param(
        'sync_interval_min',
        30,
        'Inter Cluster Peer Periodic Sync Interval (mins)',
        'How often nodes, domains and users of peers are fetched. A change takes effect after the next '
        'synchronisation.',
        low=30,
        high=1444,
        unit='minutes',
        section=_SECTION,
    ),
    Param(
        'sync_certificates',
        'perform',
        'Sync Certificates During Inter Cluster Periodic Sync',
        'Otherwise a new certificate of a node of a peer is taken only by Force Manual Sync.',
        choices=(('perform', 'Perform Certificate Sync'), ('do_not_perform', 'Do Not Perform Certificate Sync')),
        section=_SECTION,
    ),
)
