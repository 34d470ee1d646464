"""Date and time profiles (XEP-0082). Everything here is aware and UTC; ``datetime`` values come back with UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_TIME: Final = r'(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,32}))?'
_ZONE: Final = r'(?:Z|([+-])(\d{2}):(\d{2}))'
_DATETIME: Final = re.compile(rf'(\d{{4}})-(\d{{2}})-(\d{{2}})T{_TIME}{_ZONE}', re.ASCII)
_DATE: Final = re.compile(r'(\d{4})-(\d{2})-(\d{2})', re.ASCII)
_CLOCK: Final = re.compile(rf'{_TIME}{_ZONE}?', re.ASCII)
_LONGEST: Final = 64


class InvalidTime(ValueError):
    """The text is not of the profile; the message shows the right form."""


def parse(text: str) -> datetime:
    """A DateTime, ``2026-03-01T12:30:00[.fraction](Z|+hh:mm|-hh:mm)``, as UTC. Digits beyond microseconds are cut off.
    Raises InvalidTime."""
    found = _DATETIME.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        raise InvalidTime(f'{_shown(text)} is not a date and time like 2026-03-01T12:30:00Z.')
    year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = found.groups()
    try:
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), _micro(fraction), UTC)
        return local - _offset(sign, zone_hour, zone_minute)
    except (ValueError, OverflowError):
        raise InvalidTime(f'{_shown(text)} is not a date and time that exists.') from None


def format(when: datetime, digits: int = 3) -> str:
    """A DateTime in UTC with ``digits`` (0 to 6) of a second; ``when`` is aware. Digits are cut off, not rounded."""
    if when.tzinfo is None:
        raise ValueError('a time without a zone')
    when = when.astimezone(UTC)
    text = f'{when.year:04d}-{when.month:02d}-{when.day:02d}T{when.hour:02d}:{when.minute:02d}:{when.second:02d}'
    return f'{text}.{f"{when.microsecond:06d}"[:digits]}Z' if digits else f'{text}Z'


def parse_date(text: str) -> date:
    """A Date, ``2026-03-01``. Raises InvalidTime."""
    found = _DATE.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        raise InvalidTime(f'{_shown(text)} is not a date like 2026-03-01.')
    try:
        return date(*(int(part) for part in found.groups()))
    except ValueError:
        raise InvalidTime(f'{_shown(text)} is not a date that exists.') from None


def parse_time(text: str) -> tuple[time, timedelta | None]:
    """A Time, ``12:30:00[.fraction][Z|+hh:mm|-hh:mm]``: (clock as written, offset from UTC or None). Raises
    InvalidTime."""
    found = _CLOCK.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        raise InvalidTime(f'{_shown(text)} is not a time like 12:30:00Z.')
    hour, minute, second, fraction, sign, zone_hour, zone_minute = found.groups()
    try:
        clock = time(int(hour), int(minute), int(second), _micro(fraction))
        zoned = sign is not None or text.strip().endswith('Z')
        return clock, _offset(sign, zone_hour, zone_minute) if zoned else None
    except ValueError:
        raise InvalidTime(f'{_shown(text)} is not a time that exists.') from None


def _micro(fraction: str | None) -> int:
    return int(fraction[:6].ljust(6, '0')) if fraction else 0


def _offset(sign: str | None, hour: str | None, minute: str | None) -> timedelta:
    if sign is None or hour is None or minute is None:
        return timedelta()
    if int(hour) > 14 or int(minute) > 59:  # 14:00 is the largest of XML Schema
        raise ValueError
    offset = timedelta(hours=int(hour), minutes=int(minute))
    return offset if sign == '+' else -offset


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…')
