"""What the job page shows."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import bulkwork, jobs
from impadmin.console.models import Job, JobState
from impadmin.console.pace import pace

register = template.Library()

SHOWN = 200
"""Rows shown on the page; the download has them all."""
NAMES = {
    'imported': ('ok', gettext_lazy('Imported')),
    'ignored': ('warn', gettext_lazy('Ignored')),
    'errors': ('bad', gettext_lazy('Internal server errors')),
    'users': ('ok', gettext_lazy('Users with contacts exported')),
    'contacts': ('ok', gettext_lazy('Contacts exported')),
    'rows': ('ok', gettext_lazy('Rows written')),
    'locations': ('ok', gettext_lazy('Locations exported')),
    'skipped': ('warn', gettext_lazy('Not exported')),
    'lists': ('ok', gettext_lazy('Contact lists changed')),
    'renamed': ('ok', gettext_lazy('Contacts renamed')),
}
BULK = {bulkwork.DELETE, bulkwork.EDIT, 'bulk_import'}
ROWS = {
    **bulkwork.LABELS,
    'error': ('bad', gettext_lazy('Server error')),
    'ignored': ('warn', gettext_lazy('Ignored')),
}
"""Verdict of a row -> (mark, word)."""
MARKS = {
    JobState.HOLD: 'off',
    JobState.PENDING: 'off',
    JobState.PROCESSING: 'busy',
    JobState.COMPLETED: 'ok',
    JobState.INCOMPLETE: 'warn',
    JobState.FAILED: 'bad',
    JobState.CANCELLED: 'off',
}


@register.simple_tag
def job_facts(job: Job) -> dict[str, Any]:
    """Numbers, reasons and the newest rows of one job."""
    counts = job.counts
    names = jobs.words(job.kind) or (bulkwork.LABELS if job.kind in BULK else NAMES)
    ended = job.state in jobs.ENDED
    verdicts: list[tuple[str, Any, Any]] = [
        (mark, label, counts[name])
        for name, (mark, label) in names.items()
        if counts.get(name) or (name in counts and names is NAMES)
    ]
    rest = counts.get('not_processed', max(job.total - job.done, 0))
    if job.total:
        verdicts.append(('off', gettext('Not processed') if ended else gettext('Not processed yet'), rest))
    reasons = sorted(counts.get('reasons', {}).items(), key=lambda entry: -entry[1])
    most = reasons[0][1] if reasons else 1
    total = max(job.total, 1)
    counted = [(mark, counts.get(name, 0)) for name, (mark, _) in names.items()]
    if names is NAMES:
        counted = [(NAMES[name][0], counts.get(name, 0)) for name in ('imported', 'ignored', 'errors')]
    shares = [100 * sum(n for mark, n in counted if mark == wanted) / total for wanted in ('ok', 'warn', 'bad')]
    if not any(shares) and job.total:
        shares[0] = 100 * min(job.done, total) / total
    rows = list(job.rows.order_by('-line', '-id')[: SHOWN + 1])
    parameters = job.parameters
    return {
        'mark': MARKS[JobState(job.state)],
        'transaction': jobs.label(job.kind),
        'message': jobs.message_text(job),
        'pace': pace(job),
        'percent': pace(job)['percent'],
        'tens': pace(job)['percent'] // 10 * 10,
        'verdicts': verdicts,
        'bars': [
            ('ok', 0, f'{shares[0]:.3f}'),
            ('warn', f'{shares[0]:.3f}', f'{shares[1]:.3f}'),
            ('bad', f'{shares[0] + shares[1]:.3f}', f'{shares[2]:.3f}'),
        ],
        'reasons': [(gettext(reason), count, 100 * count // most) for reason, count in reasons],
        'problems': sum(n for mark, n in counted if mark in ('warn', 'bad')),
        'rows': [
            (row.line, row.subject, *ROWS[row.verdict], row.reason if names is not NAMES else reason_text(row.reason))
            for row in rows[:SHOWN]
        ],
        'more': len(rows) > SHOWN,
        'unlisted': counts.get('unlisted', 0),
        'shown': SHOWN,
        'file': job.output_file or parameters.get('name', ''),
        'has_file': bool(job.output_file) or 'file' in parameters,
        'is_input': 'file' in parameters,
        'ended': ended,
        'waits': job.state in (JobState.HOLD, JobState.PENDING),
        'holds': job.state == JobState.HOLD,
        'line': counts.get('line', 0) if job.state == JobState.PROCESSING else 0,
    }


def reason_text(stored: str) -> str:
    """A stored reason, ``reason`` or ``reason (detail)``, in the active language."""
    reason, bracket, detail = stored.partition(' (')
    if not bracket:
        return gettext(stored)
    return gettext('%(reason)s (%(detail)s)') % {'reason': gettext(reason), 'detail': gettext(detail.removesuffix(')'))}
