"""Small charts as inline SVG: no script, no inline style, a word for screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from impadmin.console import tables

register = template.Library()
WIDTH, HEIGHT, TOP = 100.0, 28.0, 2.0


@register.simple_tag
def spark(points: Sequence[float | None], label: str, classes: str = '') -> SafeString:
    """A line with its area, from the oldest point to the newest; None is a gap: nothing was reported."""
    known = [point for point in points if point is not None]
    if not known:
        return format_html('<p class="spark-none small faint">{}</p>', gettext('No report yet'))
    top = max(*known, 1.0)
    step = WIDTH / max(len(points) - 1, 1)
    runs: list[list[str]] = [[]]
    for n, point in enumerate(points):
        if point is None:
            runs.append([])
        else:
            runs[-1].append(f'{n * step:.1f} {HEIGHT - (HEIGHT - TOP) * point / top:.1f}')
    lines, areas = [], []
    for run in filter(None, runs):
        first, last = run[0].split()[0], run[-1].split()[0]
        lines.append('M' + 'L'.join(run) + ('h.4' if len(run) == 1 else ''))
        areas.append(f'M{"L".join(run)}L{last} {HEIGHT:g}L{first} {HEIGHT:g}Z')
    low, high = tables.number(round(min(known), 1)), tables.number(round(max(known), 1))
    said = gettext('%(label)s: lowest %(low)s, highest %(high)s') % {'label': label, 'low': low, 'high': high}
    return format_html(
        '<svg class="spark {}" viewBox="0 0 100 28" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path class="t" d="M0 28H100"/><path class="a" d="{}"/><path class="l" d="{}"/></svg>',
        classes,
        said,
        mark_safe(''.join(areas)),  # noqa: S308  (numbers made here)
        mark_safe(''.join(lines)),  # noqa: S308
    )


@register.filter
def rate(value: Any) -> str:
    """A number of something per time, one decimal below ten; a dash where nobody reported."""
    if value is None or value == '':
        return '–'
    return tables.number(round(value, 1) if 0 < value < 10 else round(value))
