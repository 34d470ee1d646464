"""The table: medians, how many times the engine's cost a peer's is, and whether a target was met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

Results = Mapping[str, float]
Rounds = Sequence[Mapping[str, Results]]
EJABBERD, PROSODY, BETTER = 'ejabberd', 'Prosody tuned', 'the better peer'


class Target(NamedTuple):
    """``ratio``: the engine's cost is at most the peer's divided by it. ``most``: an absolute limit instead."""

    row: str
    peer: str = BETTER
    ratio: float = 0.0
    stretch: float = 0.0
    most: float = 0.0


TARGETS = (
    Target('plain 1, µs', EJABBERD, 3, 4),
    Target('plain 1, µs', PROSODY, 4, 5),
    Target('plain 20, µs', EJABBERD, 4, 6),
    Target('plain 20, µs', PROSODY, 5, 7),
    Target('TLS 1, µs', BETTER, 2, 3),
    Target('TLS 20, µs', BETTER, 2, 3),
    Target('archive 1, µs', BETTER, 2, 3),
    Target('archive 20, µs', BETTER, 2, 3),
    Target('presence, µs', BETTER, 10, 15),
    Target('login, ms', BETTER, 2, 3),
    Target('idle session plain, KiB', most=8, stretch=5),
    Target('idle session TLS, KiB', most=40, stretch=34),
    Target('offline stored, µs', BETTER, 1, 2),
    Target('offline delivered, µs', BETTER, 1, 2),
    Target('1,000/s: p99, ms', BETTER, 1, 2),
)


def table(rounds: Rounds) -> str:
    """Markdown: median (least - most) of every result and server; a peer's cost as a multiple of the engine's."""
    names = list(dict.fromkeys(name for found in rounds for name in found))
    rows = list(dict.fromkeys(key for found in rounds for result in found.values() for key in result))
    order = sorted(rows, key=lambda row: row.endswith('/s'))
    lines = ['| n = ' + str(len(rounds)) + ' | ' + ' | '.join(names) + ' |', '| --- ' * (len(names) + 1) + '|']
    for row in order:
        reference = median(rounds, 'engine', row)
        cells = []
        for name in names:
            values = _values(rounds, name, row)
            if not values:
                cells.append('-')
                continue
            middle = statistics.median(values)
            text = f'{_number(middle)} ({_number(min(values))}-{_number(max(values))})'
            if name != 'engine' and reference and not row.endswith('/s'):
                text += f' **{middle / reference:.1f}x**'
            cells.append(text)
        lines.append(f'| {row} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def verdicts(rounds: Rounds) -> str:
    """Markdown: every target, what was found, met or missed."""
    lines = ['| target | must | stretch | found | |', '| --- | --- | --- | --- | --- |']
    for target in TARGETS:
        own = median(rounds, 'engine', target.row)
        if own is None:
            continue
        if target.most:
            met = 'stretch' if own <= target.stretch else 'met' if own <= target.most else '**missed**'
            lines.append(f'| {target.row} | {target.most:g} | {target.stretch:g} | {_number(own)} | {met} |')
            continue
        peers = (EJABBERD, PROSODY) if target.peer == BETTER else (target.peer,)
        costs = [cost for peer in peers if (cost := median(rounds, peer, target.row)) is not None]
        if len(costs) < len(peers):
            continue
        ratio = min(costs) / own if own else float('inf')
        met = 'stretch' if ratio >= target.stretch else 'met' if ratio >= target.ratio else '**missed**'
        lines.append(
            f'| {target.row}, {target.peer} | 1/{target.ratio:g} | 1/{target.stretch:g} | 1/{ratio:.1f} | {met} |'
        )
    return '\n'.join(lines)


BEGIN, END = '<!-- results of python -m tests.load -->', '<!-- end of results -->'

CONSOLE = '<!-- results of tests.load.console_pages -->', '<!-- end of results of tests.load.console_pages -->'
BULK = '<!-- results of tests.load.bulk_edit -->', '<!-- end of results of tests.load.bulk_edit -->'
NODES = '<!-- results of python -m tests.load.nodes -->', '<!-- end of results of tests.load.nodes -->'


def write(path: Path, title: str, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Put ``text`` between the marks of a Markdown file. Raises ValueError when it has none."""
    before, begin, rest = path.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f'{path} has no lines {marks[0]} and {marks[1]}.')
    path.write_text(f'{before}{begin}\n{title}\n\n{text}\n{end}{after}')


def median(rounds: Rounds, name: str, row: str) -> float | None:
    """Over the rounds that have it."""
    values = _values(rounds, name, row)
    return statistics.median(values) if values else None


def _values(rounds: Rounds, name: str, row: str) -> list[float]:
    return [found[name][row] for found in rounds if name in found and row in found[name]]


def _number(value: float) -> str:
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
