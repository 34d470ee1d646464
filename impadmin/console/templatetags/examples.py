"""``{% api_examples as found %}``: the examples of *Do this by API* for the page that is drawn."""

from __future__ import annotations

from typing import Any

from django import forms, template

from impadmin.console.access import grants_of
from impadmin.console.examples import Example, Shown, examples
from impadmin.console.forms import PageForm
from impadmin.console.page import BasePage
from impadmin.console.parameterview import Target

register = template.Library()


@register.simple_tag(takes_context=True)
def api_examples(context: Any) -> list[Example]:
    """[] on what is no page of the registry."""
    page, request = getattr(context.get('shell'), 'page', None), context.get('request')
    if not isinstance(page, BasePage) or request is None:
        return []
    form, target = context.get('form'), context.get('target')
    shown = Shown(
        context.get('object'),
        form if isinstance(form, PageForm) else None,
        target if isinstance(target, Target) else None,
        form if isinstance(form, forms.Form) and isinstance(target, Target) else None,
    )
    return examples(page, shown, grants_of(request), request.build_absolute_uri('/').rstrip('/'))
