"""Parameters of Cisco XCP Router for client streams: stream management (guide 7482-7496), quiet mode (guide 6925)."""

from __future__ import annotations

from engine.contract.params import Param
from engine.contract.service_keys import XCP_ROUTER

STREAM_MANAGEMENT = 'Stream Management Parameters (Clusterwide)'
QUIET_MODE = 'Quiet Mode Parameters'

STREAM_PARAMS: tuple[Param, ...] = (
    Param(
        'stream_management',
        'enabled',
        'Enable Stream Management',
        'Clients confirm what they have received and can continue a session after a short loss of the connection '
        '(XEP-0198). For the whole cluster.',
        choices=(('enabled', 'Enabled'), ('disabled', 'Disabled')),
        restart=(XCP_ROUTER,),
        section=STREAM_MANAGEMENT,
    ),
    Param(
        'stream_management_timeout_s',
        60,
        'Stream Management Timeout',
        'How long a session waits for its client after the connection is lost. A client that asks for longer, or for '
        'nothing, gets this time. Afterwards unconfirmed instant messages go back to their senders.',
        low=30,
        high=90,
        unit='seconds',
        restart=(XCP_ROUTER,),
        section=STREAM_MANAGEMENT,
    ),
    Param(
        'stream_management_buffer',
        100,
        'Stream Management Buffer',
        'Packets kept for each session until the client has confirmed them. A client that missed more cannot continue '
        'its session; its messages are not lost.',
        low=5,
        high=150,
        unit='packets',
        restart=(XCP_ROUTER,),
        section=STREAM_MANAGEMENT,
    ),
    Param(
        'stream_management_rate',
        5,
        'Acknowledgement Request Rate',
        'After so many stanzas the client is asked to confirm. A smaller number costs traffic and saves memory. Keep '
        'it below the Stream Management Buffer.',
        low=1,
        high=64,
        unit='stanzas',
        restart=(XCP_ROUTER,),
        section=STREAM_MANAGEMENT,
    ),
    Param(
        'stream_management_bytes',
        1_048_576,
        'Maximum bytes waiting for a lost client',
        'When more waits for a client whose connection is lost, its session ends before the time-out and the instant '
        'messages go back to their senders.',
        low=65_536,
        high=67_108_864,
        unit='bytes',
        section=STREAM_MANAGEMENT,
    ),
    Param(
        'quiet_stanzas',
        100,
        'Quiet mode: maximum packets per client',
        'A client in the background gets what waits for it when so many packets have gathered.',
        low=1,
        high=10_000,
        unit='packets',
        section=QUIET_MODE,
    ),
    Param(
        'quiet_bytes',
        65_536,
        'Quiet mode: maximum bytes per client',
        'A client in the background gets what waits for it when so many bytes have gathered.',
        low=1024,
        high=16_777_216,
        unit='bytes',
        section=QUIET_MODE,
    ),
    Param(
        'quiet_total_bytes',
        67_108_864,
        'Quiet mode: overall buffer size limit',
        'When so many bytes wait for all clients in the background together, each further packet delivers what waits '
        'for its client.',
        low=65_536,
        high=4_294_967_296,
        unit='bytes',
        section=QUIET_MODE,
    ),
)
