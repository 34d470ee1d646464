"""Service and enterprise parameters as data: page, REST, validation and documentation are generated from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Param:
    """One run-time parameter, declared beside the service that reads it.

    name     snake_case key, unique within its service; unit as suffix (``_s`` seconds, ``_bytes``)
    default  value of a fresh system; its type (int, bool, str) is the parameter's type
    label    the product's English label; help: one or two plain sentences
    low/high inclusive range of an int; choices: allowed values of a str
    scope    'cluster' (one value) or 'node' (each node its own)
    restart  keys of the services that must restart before a change takes effect; empty: read live
    section  heading on the page
    not_below  (name, times): another int parameter of the service; the value must be at least so many times its value
    """

    name: str
    default: Any
    label: str
    help: str = ''
    low: int | None = None
    high: int | None = None
    choices: tuple[tuple[str, str], ...] = ()
    unit: str = ''
    scope: Literal['cluster', 'node'] = 'cluster'
    restart: tuple[str, ...] = ()
    section: str = 'General'
    pattern: str = ''
    not_below: tuple[str, int] | None = None

    @property
    def type(self) -> type:
        """int, bool or str."""
        return type(self.default)

    def error(self, value: Any) -> str | None:
        """What is wrong with ``value`` and what would be right, or None. Messages are English source strings."""
        import re

        if self.type is bool:
            return None if isinstance(value, bool) else 'Enter true or false.'
        if self.type is int:
            if isinstance(value, bool) or not isinstance(value, int):
                return 'Enter a whole number.'
            if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
                return f'Enter a number from {self.low} to {self.high}.'
            return None
        if not isinstance(value, str):
            return 'Enter text.'
        if self.choices and value not in {key for key, _ in self.choices}:
            return 'Choose one of: ' + ', '.join(key for key, _ in self.choices) + '.'
        if self.pattern and not re.fullmatch(self.pattern, value):
            return 'The value does not have the required form.'
        return None


def listen_address(help: str, restart: str, name: str = 'bind_address', **others: Any) -> Param:
    """The address a service listens on."""
    words: dict[str, Any] = {'label': 'Listen address', 'section': 'Listeners'} | others
    pattern = r'[0-9A-Fa-f.:]{2,45}'
    return Param(name, '127.0.0.1', help=help, scope='node', restart=(restart,), pattern=pattern, **words)


def listen_port(name: str, default: int, label: str, help: str, restart: str, **others: Any) -> Param:
    """A port a service listens on."""
    words: dict[str, Any] = {'low': 1, 'section': 'Listeners'} | others
    return Param(name, default, label, help, high=65535, scope='node', restart=(restart,), **words)


def time_limit(name: str, default: int, label: str, help: str, **others: Any) -> Param:
    """Seconds after which something is over."""
    words: dict[str, Any] = {'high': 600, 'section': 'Limits'} | others
    return Param(name, default, label, help, low=1, unit='seconds', **words)


def size_limit(name: str, default: int, label: str, help: str, low: int, high: int, section: str = 'Limits') -> Param:
    """Most bytes of something."""
    return Param(name, default, label, help, low=low, high=high, unit='bytes', section=section)


def connection_limit(name: str, default: int, **others: Any) -> Param:
    """Most connections from one address."""
    label, help = 'Maximum connections per IP address', 'Further connections from the same address are closed at once.'
    words: dict[str, Any] = {'label': label, 'high': 1000000, 'section': 'Limits'} | others
    return Param(name, default, help=help, low=1, **words)


def name_servers(what: str, restart: str, section: str) -> Param:
    """The name servers a service asks."""
    help = f'Addresses of the name servers that find {what}, separated by commas, each with or without a port. '
    pattern = r'[0-9A-Fa-f.:\[\], ]{0,300}'
    return Param(
        'dns_servers', '', 'DNS servers', f'{help}Empty means those of the operating system.', scope='node',
        restart=(restart,), section=section, pattern=pattern,
    )  # fmt: skip
