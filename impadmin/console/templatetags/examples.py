"""``{% api_examples as found %}``: the examples of *Do this by API* for the page that is drawn."""

from __future__ import annotations

from typing import Any

from django import template

from impadmin.console.access import grants_of
from impadmin.console.examples import Example, examples
from impadmin.console.page import BasePage

register = template.Library()


@register.simple_tag(takes_context=True)
def api_examples(context: Any) -> list[Example]:
    """[] on what is no page of the registry."""
    page, request = getattr(context.get('shell'), 'page', None), context.get('request')
    if not isinstance(page, BasePage) or request is None:
        return []
    return examples(page, context.get('object'), grants_of(request), request.build_absolute_uri('/').rstrip('/'))
