"""Diagnostics > System Troubleshooter."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _

from impadmin.console import diagnosis
from impadmin.console.access import grants_of
from impadmin.console.facts import Facts
from impadmin.console.page import ViewPage

MARKS = {'passed': 'ok', 'warning': 'warn', 'failed': 'bad'}


def troubleshooter(request: HttpRequest, page: ViewPage) -> HttpResponse:
    """Opening the page runs every test (guide 11224)."""
    words = {'passed': _('Test passed'), 'warning': _('Test warning'), 'failed': _('Test failed')}
    results, who = diagnosis.run(Facts()), grants_of(request)
    sections: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        row = {
            'title': result.check.title,
            'mark': MARKS[result.outcome],
            'word': words[result.outcome],
            'problems': [(problem, *result.link(problem, who)) for problem in result.problems],
        }
        sections.setdefault(str(result.check.section.title), []).append(row)
    counts = [(MARKS[key], word, sum(1 for result in results if result.outcome == key)) for key, word in words.items()]
    context = {
        'page': page,
        'sections': sections.items(),
        'counts': [entry for entry in counts if entry[2]],
        'at': timezone.localtime(),
    }
    return render(request, 'diagnostics/troubleshooter.html', context)


def troubleshooter_api(request: HttpRequest) -> dict[str, Any]:
    """Every test with its outcome and problems; reading it runs them."""
    return {
        'tests': [
            {
                'name': result.check.name,
                'section': str(result.check.section.title),
                'test': str(result.check.title),
                'outcome': result.outcome,
                'problems': [
                    {
                        'problem': str(problem.text),
                        'solution': str(problem.solution),
                        'fix': result.link(problem, grants_of(request))[0],
                        'warning': problem.warning,
                    }
                    for problem in result.problems
                ],
            }
            for result in diagnosis.run(Facts())
        ]
    }
