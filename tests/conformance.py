"""The account of what is proven: which rows of docs/conformance/rows.csv have a test that demonstrates them.

A full run of pytest fails when a row of proven.txt has no passing test any more, and adds rows that gained one to
proven.txt. ``make conformance`` (``python -m tests.conformance``) writes report.md from the collected tests without
running them. A row leaves proven.txt by hand only: that is a decision, not an accident.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping

import pytest

from tests.proves import ROWS, rows

REPORT = ROWS.with_name('report.md')
PROVEN = ROWS.with_name('proven.txt')


def proven_before() -> set[str]:
    """The rows that had a proof when proven.txt was last written."""
    return set(PROVEN.read_text().split()) if PROVEN.exists() else set()


def _chapter(row: Mapping[str, str]) -> str:
    return row['spec'].removesuffix('.md')


def report(proofs: Mapping[str, Collection[str]]) -> str:
    """The report in Markdown; the same proofs give the same text."""
    chapters = {name: list(group) for name, group in itertools.groupby(rows().values(), _chapter)}
    lines = [
        '# What is proven',
        '',
        'Written by `make conformance` and by every full test run; do not edit. A row counts as proven when a test',
        'names it with `@proves` and passes. The rows are in [rows.csv](rows.csv).',
        '',
        '| chapter | rows | proven | % |',
        '| --- | ---: | ---: | ---: |',
    ]
    for name, group in chapters.items():
        count = sum(row['id'] in proofs for row in group)
        lines.append(f'| [{name}](#{name}) | {len(group)} | {count} | {100 * count // len(group)} |')
    total = sum(row in proofs for row in rows())
    lines.append(f'| **all** | **{len(rows())}** | **{total}** | **{100 * total // len(rows())}** |')
    for name, group in chapters.items():
        lines += ['', f'## {name}', '']
        proven = [row for row in group if row['id'] in proofs]
        if proven:
            lines += ['| row | feature | shown by |', '| --- | --- | --- |']
            for row in proven:
                feature = row['feature'].replace('|', '\\|')
                tests = '<br>'.join(f'`{test}`' for test in sorted(proofs[row['id']]))
                lines.append(f'| {row["id"]} | {feature} | {tests} |')
            lines.append('')
        open_rows = [row['id'] for row in group if row['id'] not in proofs]
        lines.append(f'Unproven: {", ".join(open_rows)}' if open_rows else 'Every row is proven.')
    return '\n'.join(lines) + '\n'


def account(proofs: Mapping[str, Collection[str]], *, passed: bool) -> list[str]:
    """Write report.md, and proven.txt when the tests ``passed``; the rows that have lost their proof."""
    named = {row: {test.partition('[')[0] for test in tests} for row, tests in proofs.items()}
    before = proven_before()
    REPORT.write_text(report(named), encoding='utf-8')
    if passed:
        PROVEN.write_text(''.join(f'{row}\n' for row in rows() if row in named or row in before))
    return [row for row in rows() if row in before and row not in named]


class Plugin:
    """Follows one run of pytest; with pytest-xdist, the controlling process does."""

    def __init__(self) -> None:
        self.claims: dict[str, set[str]] = defaultdict(set)
        """Row id -> node ids of the tests that name it, of those collected or finished."""
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.lost: list[str] = []

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note what a test claims, also in its report: that is all that comes back from a worker of pytest-xdist."""
        for mark in item.iter_markers('proves'):
            item.user_properties += [('proves', row) for row in mark.args]
        self._claimed(item.nodeid, item.user_properties)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what passed; a test that failed in any phase proves nothing."""
        self._claimed(report.nodeid, report.user_properties)
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == 'call' and report.passed:
            self.passed.add(report.nodeid)

    def passed_again(self, tests: Collection[str]) -> None:
        """These failed, and passed when they were run again."""
        self.failed.difference_update(tests)
        self.passed.update(tests)

    def proofs(self) -> dict[str, set[str]]:
        """Row id -> node ids of the tests that name it and passed."""
        good = self.passed - self.failed
        return {row: tests & good for row, tests in self.claims.items() if tests & good}

    def _claimed(self, test: str, properties: list[tuple[str, object]]) -> None:
        for name, row in properties:
            if name == 'proves':
                self.claims[str(row)].add(test)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After a full run: keep the account, fail when a proof is lost."""
        options = session.config.option
        narrowed = options.keyword or options.markexpr or getattr(options, 'lf', False) or options.deselect
        whole = session.config.args == session.config.getini('testpaths') and not narrowed
        if not whole or session.shouldstop or options.collectonly or hasattr(session.config, 'workerinput'):
            return
        self.lost = account(self.proofs(), passed=True)
        if self.lost and session.exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the lost rows."""
        if self.lost:
            terminalreporter.section('rows of docs/conformance/proven.txt without a proof')
            terminalreporter.write_line(', '.join(self.lost))


def pytest_configure(config: pytest.Config) -> None:
    """Follow this run."""
    config.pluginmanager.register(Plugin(), 'conformance-account')


def main() -> int:
    """Write the account from the collected tests, print the table, and say which rows lost their proof."""
    plugin = Plugin()
    status = pytest.main(['--collect-only', '-qqq', '--no-header', '--no-summary'], [plugin])
    if status:
        print('The tests could not be collected: run pytest --collect-only.', file=sys.stderr)
        return 1
    lost = account(plugin.claims, passed=False)
    print(REPORT.read_text().partition('\n## ')[0])
    if lost:
        print('These rows of proven.txt have no test any more:', ', '.join(lost), file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
