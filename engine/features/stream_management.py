"""XEP-0198: acknowledged and resumable client streams (engine/managed.py, connection_manager/nonzas.py).

Offered as a stream feature while Enable Stream Management is on; not over BOSH, whose requests are acknowledged
themselves."""

from __future__ import annotations

from engine.features.registry import xep

XEP = xep(198, '1.6')
