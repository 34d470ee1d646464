"""XEP-0352: a client says whether somebody looks at it; quiet mode of Multi-Device Messaging (engine/quiet.py)."""

from __future__ import annotations

from engine.features.registry import xep

XEP = xep(352, '1.0.0')
