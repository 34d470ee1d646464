"""The list of implemented standards, made from the declarations in the code (``xep(...)``, features/registry.py).

``python -m engine.standards`` writes it to ``engine/contract/standards.py`` (which the console shows) and into the
README; a test fails when either is not what the code declares. Service discovery reads the declarations themselves.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import engine
from engine import features
from engine.contract.standards import Standard
from engine.features.registry import XEPS

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / 'engine' / 'contract' / 'standards.py'
README = ROOT / 'README.md'
BEGIN, END = '<!-- standards: made by python -m engine.standards -->', '<!-- /standards -->'
WIDTH = 120

RFCS = (
    Standard('RFC 6120', 'XMPP Core', '', 'complete'),
    Standard('RFC 6121', 'XMPP Instant Messaging and Presence', '', 'complete'),
    Standard('RFC 7590', 'Use of TLS in XMPP', '', 'complete'),
    Standard('RFC 7622', 'XMPP Address Format', '', 'complete'),
    Standard('RFC 5802', 'SCRAM-SHA-1', '', 'complete'),
    Standard('RFC 7677', 'SCRAM-SHA-256', '', 'complete'),
    Standard('RFC 7395', 'XMPP over WebSocket', '', 'complete'),
    Standard('RFC 3261', 'SIP: Session Initiation Protocol', '', 'partial'),
    Standard('RFC 3428', 'SIP Extension for Instant Messaging', '', 'complete'),
    Standard('RFC 3581', 'SIP Symmetric Response Routing', '', 'complete'),
    Standard('RFC 3856', 'Presence Event Package for SIP', '', 'complete'),
    Standard('RFC 3863', 'Presence Information Data Format (PIDF)', '', 'complete'),
    Standard('RFC 3903', 'SIP Extension for Event State Publication', '', 'complete'),
    Standard('RFC 6665', 'SIP-Specific Event Notification', '', 'partial'),
    Standard('RFC 7247', 'SIP and XMPP: Architecture, Addresses, and Error Handling', '', 'partial'),
    Standard('RFC 7248', 'SIP and XMPP: Presence', '', 'partial'),
    Standard('RFC 7572', 'SIP and XMPP: Instant Messaging', '', 'complete'),
)

TITLES = {
    4: 'Data Forms',
    12: 'Last Activity',
    13: 'Flexible Offline Message Retrieval',
    16: 'Privacy Lists',
    30: 'Service Discovery',
    33: 'Extended Stanza Addressing',
    45: 'Multi-User Chat',
    48: 'Bookmarks',
    49: 'Private XML Storage',
    54: 'vcard-temp',
    55: 'Jabber Search',
    59: 'Result Set Management',
    60: 'Publish-Subscribe',
    66: 'Out of Band Data',
    68: 'Field Standardization for Data Forms',
    71: 'XHTML-IM',
    82: 'XMPP Date and Time Profiles',
    84: 'User Avatar',
    92: 'Software Version',
    106: 'JID Escaping',
    114: 'Jabber Component Protocol',
    115: 'Entity Capabilities',
    124: 'Bidirectional-streams Over Synchronous HTTP (BOSH)',
    126: 'Invisibility',
    128: 'Service Discovery Extensions',
    153: 'vCard-Based Avatars',
    156: 'Discovering Alternative XMPP Connection Methods',
    160: 'Best Practices for Handling Offline Messages',
    163: 'Personal Eventing Protocol',
    170: 'Recommended Order of Stream Feature Negotiation',
    172: 'User Nickname',
    178: 'Best Practices for Use of SASL EXTERNAL with Certificates',
    185: 'Dialback Key Generation and Validation',
    191: 'Blocking Command',
    198: 'Stream Management',
    199: 'XMPP Ping',
    202: 'Entity Time',
    203: 'Delayed Delivery',
    206: 'XMPP Over BOSH',
    220: 'Server Dialback',
    222: 'Persistent Storage of Public Data via PubSub',
    223: 'Persistent Storage of Private Data via PubSub',
    227: 'Portable Import/Export Format for XMPP-IM Servers',
    237: 'Roster Versioning',
    249: 'Direct MUC Invitations',
    273: 'Stanza Interception and Filtering Technology (SIFT)',
    280: 'Message Carbons',
    288: 'Bidirectional Server-to-Server Connections',
    297: 'Stanza Forwarding',
    313: 'Message Archive Management',
    334: 'Message Processing Hints',
    344: 'Impact of TLS and DNSSEC on Dialback',
    352: 'Client State Indication',
    357: 'Push Notifications',
    359: 'Unique and Stable Stanza IDs',
    368: 'SRV records for XMPP over TLS',
    398: 'User Avatar to vCard-Based Avatars Conversion',
    402: 'PEP Native Bookmarks',
    410: "MUC Self-Ping (Schrödinger's Chat)",
    440: 'SASL Channel-Binding Type Capability',
    441: 'Message Archive Management Preferences',
    474: 'SASL SCRAM Downgrade Protection',
}
"""Titles of the XMPP Standards Foundation, in English everywhere."""


def declared() -> tuple[Standard, ...]:
    """Everything the code declares, RFCs first, XEPs by number. Raises KeyError for a XEP without a title."""
    importlib.import_module('engine.services.xcp_router')  # first: it and the presence engine need each other
    for module in pkgutil.walk_packages(engine.__path__, 'engine.'):
        if not module.name.endswith('__main__'):
            importlib.import_module(module.name)
    features.load()
    xeps = (
        Standard(f'XEP-{xep.number:04d}', TITLES[xep.number], xep.version, xep.status)
        for xep in sorted(XEPS.values(), key=lambda xep: xep.number)
    )
    return (*RFCS, *xeps)


def source(standards: tuple[Standard, ...]) -> str:
    """The text of ``engine/contract/standards.py``: what is there, with the list replaced."""
    head, marker, _ = LIST.read_text(encoding='utf-8').partition('STANDARDS: ')
    lines = ''.join(
        f'    Standard({one.name!r}, {one.title!r}, {one.version!r}, {one.status!r}),\n' for one in standards
    )
    return f'{head}{marker}tuple[Standard, ...] = (\n{lines})\n'


def paragraph(standards: tuple[Standard, ...]) -> str:
    """The list as README shows it: names and titles, partial ones marked."""
    words = [f'{one.name} {one.title}' + (' (partial)' if one.status == 'partial' else '') for one in standards]
    lines, line = [], ''
    for word in '; '.join(words).split(' '):
        if len(line) + len(word) + 1 > WIDTH:
            lines.append(line)
            line = word
        else:
            line = f'{line} {word}' if line else word
    return '\n'.join((*lines, line + '.'))


def readme(standards: tuple[Standard, ...]) -> str:
    """README with its list replaced."""
    text = README.read_text(encoding='utf-8')
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f'README.md has no {BEGIN} ... {END}')
    return f'{head}{begin}\n{paragraph(standards)}\n{end}{tail}'


def main() -> None:
    """Write both."""
    standards = declared()
    LIST.write_text(source(standards), encoding='utf-8')
    README.write_text(readme(standards), encoding='utf-8')


if __name__ == '__main__':
    main()
