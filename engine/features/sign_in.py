"""What clients are told so that nobody can weaken their sign-in on the way (engine/xmpp/negotiation.py, sasl.py).

XEP-0440: the types of channel binding there really are, next to the mechanisms and only when one of these can use them.
That is tls-server-end-point: Python 3.11 cannot export keying material, so tls-exporter is not offered. XEP-0474: the
hash of both lists as attribute ``h`` of the server's first SCRAM message, so that the proof covers them.
"""

from __future__ import annotations

from engine.features.registry import xep

BINDINGS = xep(440, '0.4.1')
DOWNGRADE_PROTECTION = xep(474, '0.5.0')
