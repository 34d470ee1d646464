"""Parameters of the Cisco XCP Router for instant messages: offline store, Multi-Device Messaging, archive, capacity."""

from __future__ import annotations

from engine.contract.params import Param
from engine.contract.service_keys import XCP_ROUTER

_DAY = '(Mon|Tue|Wed|Thu|Fri|Sat|Sun)'

MESSAGE_PARAMS = (
    Param(
        'max_offline_bytes',
        10_485_760,
        'Maximum size of offline messages per user',
        'Room for the instant messages kept for a user who is not signed in. At the limit the sender gets an error.',
        low=10_000,
        high=1_073_741_824,
        unit='bytes',
    ),
    Param(
        'offline_days',
        0,
        'Offline message expiry',
        'Instant messages that waited longer for their user are removed. 0 keeps them.',
        low=0,
        high=3650,
        unit='days',
    ),
    Param(
        'enable_multi_device_messaging',
        'enabled',
        'Enable Multi-Device Messaging',
        'Instant messages reach every client of a user that asks for it, and what a user sends or reads on one client '
        'is shown on the others. When it is disabled, messages go to the client that answered last. Cisco Jabber '
        'supports it from 11.7 on; Mobile and Remote Access needs Expressway X8.8 or later.',
        choices=(('enabled', 'Enabled'), ('disabled', 'Disabled')),
        restart=(XCP_ROUTER,),
        section='Multi-Device Messaging',
    ),
    Param(
        'mdm_active_s',
        300,
        'Active client time-out',
        'A client counts as the active one for this time after it sent a message or its availability. While none is '
        'active, all clients of the user notify.',
        low=1,
        high=86400,
        unit='seconds',
        section='Multi-Device Messaging',
    ),
    Param(
        'message_archive',
        False,
        'Enable Message Archive',
        'Keeps the instant messages of every user on the server, so that each client can show what was said on others. '
        'Users can exclude contacts.',
        restart=(XCP_ROUTER,),
        section='Message Archive',
    ),
    Param(
        'archive_days',
        365,
        'Message archive retention',
        'Older messages are removed from the archives.',
        low=1,
        high=36500,
        unit='days',
        section='Message Archive',
    ),
    Param(
        'archive_max_messages',
        100_000,
        'Maximum number of archived messages per user',
        'When an archive is larger, its oldest messages are removed. It may exceed the limit by 5 percent.',
        low=10,
        high=100_000_000,
        section='Message Archive',
    ),
    Param(
        'rated_jsm_sessions',
        7500,
        'Rated JSM sessions',
        'Sessions the node was sized for: 1.5 times the users of its machine template (7,500, 22,500 or 37,500). '
        'When both nodes of a redundancy group are active, half of that.',
        low=1,
        high=10_000_000,
        scope='node',
        section='Device Capacity Monitoring',
    ),
    Param(
        'jsm_threshold_percent',
        80,
        'JSM sessions threshold',
        'More than this part of the rated sessions for the duration below raises the alarm '
        'JSMSessionsExceedsThreshold.',
        low=1,
        high=100,
        unit='percent',
        scope='node',
        section='Device Capacity Monitoring',
    ),
    Param(
        'jsm_threshold_s',
        600,
        'JSM sessions duration',
        'For so long the threshold must be exceeded before the alarm is raised.',
        low=1,
        high=86400,
        unit='seconds',
        section='Device Capacity Monitoring',
    ),
    Param(
        'jsm_alert',
        True,
        'Enable alert JSMSessionsExceedsThreshold',
        'When this is off, the alarm is not raised, and one that stands is cleared.',
        scope='node',
        section='Device Capacity Monitoring',
    ),
    Param(
        'jsm_alert_frequency_s',
        600,
        'Alert frequency',
        'While the threshold is exceeded, the alarm is renewed at this interval.',
        low=1,
        high=86400,
        unit='seconds',
        scope='node',
        section='Device Capacity Monitoring',
    ),
    Param(
        'jsm_alert_days',
        'Mon,Tue,Wed,Thu,Fri,Sat,Sun',
        'Alert days',
        'The alarm is raised and renewed on these days only, for example Mon,Tue,Wed. It is cleared at any time.',
        pattern=f'{_DAY}(, ?{_DAY}){{0,6}}',
        scope='node',
        section='Device Capacity Monitoring',
    ),
    *(
        Param(
            name,
            '00:00',
            label,
            'Time of day on the node, for example 08:30. The alarm is raised and renewed between the two times only; '
            'when they are the same, all day.',
            pattern='([01][0-9]|2[0-3]):[0-5][0-9]',
            scope='node',
            section='Device Capacity Monitoring',
        )
        for name, label in (('jsm_alert_from', 'Alert from'), ('jsm_alert_until', 'Alert until'))
    ),
    Param(
        'internal_networks',
        '10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16, 127.0.0.0/8, fc00::/7, fe80::/10, ::1',
        'Internal networks',
        'Clients with other addresses count as off-site. Leave out the address of an Expressway, which clients outside '
        'come through.',
        pattern='[0-9A-Fa-f.:/, ]*',
        section='Device Capacity Monitoring',
    ),
)
