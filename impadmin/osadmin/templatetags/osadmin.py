"""Template tag of the page of one certificate."""

from __future__ import annotations

from typing import Any

from django import template

from impadmin.osadmin import naming
from impadmin.osadmin.pages import distribution, state, type_of

register = template.Library()


@register.simple_tag
def certificate_facts(one: Any) -> dict[str, Any]:
    """What ``osadmin/certificate.html`` draws beside the fields."""
    return {
        'state': state(one),
        'type': type_of(one),
        'distribution': distribution(one),
        'names': one.names.split(),
        'lacking': naming.lacking(one, one.wanted),
        'serial': ':'.join(part.zfill(2) for part in _pairs(one.serial)),
        'fingerprint': ':'.join(_pairs(one.fingerprint.upper())),
        'chained': bool(one.chain),
    }


def _pairs(text: str) -> list[str]:
    text = text.zfill(len(text) + len(text) % 2)
    return [text[at : at + 2] for at in range(0, len(text), 2)]
