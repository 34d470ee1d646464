"""Parameters of Cisco Server Recovery Manager (guide 2135-2172). Ranges are ours, the guide prints defaults only."""

from __future__ import annotations

from engine.contract.params import Param
from engine.contract.service_keys import SERVER_RECOVERY_MANAGER

_GENERAL = 'General Server Recovery Manager Parameters (Clusterwide)'
_CLIENTS = 'Client Re-Login'

RECOVERY_PARAMS = (
    Param(
        'service_port', 22001, 'Service Port',
        'UDP port at which the two nodes of a group hear each other. Open it between the nodes only.',
        low=1024, high=65535, restart=(SERVER_RECOVERY_MANAGER,), section=_GENERAL,
    ),
    Param(
        'critical_service_delay_s', 90, 'Critical Service Delay',
        'How long a critical service may be down before the users of the node are moved.',
        low=10, high=3600, unit='seconds', section=_GENERAL,
    ),
    Param(
        'automatic_fallback', False, 'Enable Automatic Fallback',
        'When a failed node has been healthy for 30 minutes its users return by themselves. Not after a failover by an '
        'administrator.',
        section=_GENERAL,
    ),
    Param(
        'initialization_timeout_s', 120, 'Initialization Keep Alive (Heartbeat) Timeout',
        'How long the other node may be silent after this one has started before its users are taken over.',
        low=30, high=3600, unit='seconds', section=_GENERAL, not_below=('keep_alive_timeout_s', 1),
    ),
    Param(
        'keep_alive_timeout_s', 60, 'Keep Alive (Heartbeat) Timeout',
        'How long the other node may be silent before its users are taken over. A node that reaches neither the other '
        'one nor the database stops serving after this time.',
        low=5, high=3600, unit='seconds', section=_GENERAL, not_below=('keep_alive_interval_s', 2),
    ),
    Param(
        'keep_alive_interval_s', 15, 'Keep Alive (Heartbeat) Interval', 'Time between two heartbeats.',
        low=1, high=300, unit='seconds', section=_GENERAL,
    ),
    Param(
        'authentication_monitoring', False, 'Enable XCP Authentication Service Monitoring',
        'Treats Cisco XCP Authentication Service as a critical service.', section=_GENERAL,
    ),
    Param(
        'bind_address', '', 'Listen address',
        'IP address the Service Port listens on. Empty means the address of the node.', scope='node',
        restart=(SERVER_RECOVERY_MANAGER,), section='Listeners', pattern=r'([0-9A-Fa-f.:]{2,45})?',
    ),
    Param(
        'relogin_lower_s', 120, 'Client Re-Login Lower Limit',
        'Clients of this node wait at least so long before they sign in again after a failover. Give both nodes of a '
        'group the same limits, not below the Critical Service Delay.',
        high=3600, low=0, unit='seconds', scope='node', section=_CLIENTS,
    ),
    Param(
        'relogin_upper_s', 537, 'Client Re-Login Upper Limit',
        'Clients of this node wait at most so long. Lower limit plus users of the largest node divided by the sign-ins '
        'per second it bears.',
        high=7200, low=0, unit='seconds', scope='node', section=_CLIENTS, not_below=('relogin_lower_s', 1),
    ),
)  # fmt: skip
