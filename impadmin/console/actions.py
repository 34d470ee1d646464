"""The only writers. Forms, REST, jobs and commands call these; nothing else saves a configuration object.

Each one, in a single transaction: validate (model, then the page's rules) -> save -> audit entry with before and after
-> when the page configures the engine, compile and store a new generation; after commit, announce.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impadmin.console.page import Command, Page, Result, SettingsPage


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: user name, role, IP address (or job/task name), channel (browser, rest, job, cli, system)."""

    name: str
    role: str
    source: str = ''
    channel: str = 'system'


SYSTEM = Actor('system', 'administrator', 'system', 'system')


class Refused(Exception):
    """The action is not possible in the present state; the text says why and what to do. REST: 409."""
