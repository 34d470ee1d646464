"""The history of a node's counters for the System Dashboard: rings of samples in the table node_sample."""

from __future__ import annotations

SAMPLE_S = 10
"""Seconds from sample to sample: the step of the finest ring."""
RINGS = ((SAMPLE_S, 360), (60, 1440), (600, 1008))
"""(seconds of one slot, slots): an hour, a day, a week. A slot is written again when its ring comes round."""
