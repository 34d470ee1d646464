"""Telephone numbers and devices of end users: written by the console, told by User Data Services.

Nothing here rings: a device is a record that a client finds its own name in, a line the number that others dial.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

TAGS: Final = ('FirstName', 'LastName', 'UserID', 'Product')
"""What ``#...#`` in the text of a universal template may name."""
_TAG: Final = re.compile('#([A-Za-z]+)#')
_NAME: Final = re.compile(r'SEP[0-9A-F]{12}|(?:CSF|TCT|BOT|TAB)[A-Z0-9._-]{1,12}')


class Kind(NamedTuple):
    """A kind of device. ``mobile``: its template is that of mobile and desktop devices, not that of desk phones."""

    model: str
    type: str
    mobile: bool


KINDS: Final = {
    'SEP': Kind('Cisco IP Phone', 'Cisco IP Phone', False),
    'CSF': Kind('Cisco Unified Client Services Framework', 'Client Services Framework', True),
    'TCT': Kind('Cisco Dual Mode for iPhone', 'Dual Mode for iPhone', True),
    'BOT': Kind('Cisco Dual Mode for Android', 'Dual Mode for Android', True),
    'TAB': Kind('Cisco Jabber for Tablet', 'Jabber for Tablet', True),
}
"""By the first three letters of the device name."""


def kind(name: str) -> Kind | None:
    """The kind of the device with this name; None when no device can have it."""
    return KINDS[name[:3]] if _NAME.fullmatch(name) else None


def unknown_tags(text: str) -> list[str]:
    """Tags in ``text`` that stand for nothing."""
    return [f'#{name}#' for name in _TAG.findall(text) if name not in TAGS]


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with its tags replaced; those without a value vanish."""
    return ' '.join(_TAG.sub(lambda found: values.get(found[1], ''), text).split())


def digits(number: str) -> str:
    """The digits of a telephone number as people write it."""
    return ''.join(char for char in number if char in '0123456789')


def masked(mask: str, number: str) -> str:
    """``mask`` with each X replaced, from its right end, by the digits of ``number``: 11XX and 8889945 make 1145.

    '' when ``number`` has fewer digits than the mask has X (guide 2713-2715).
    """
    wanted = mask.count('X')
    found = iter(number[len(number) - wanted :])
    return ''.join(next(found) if char == 'X' else char for char in mask) if wanted <= len(number) else ''


def external_number(mask: str, extension: str) -> str:
    """What others dial: the extension in the External Phone Number Mask of its line, else the extension itself."""
    return (masked(mask, extension) if extension else '') or extension
