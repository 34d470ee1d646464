"""The standards the engine implements. The list is made by ``python -m engine.standards`` from the code."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Standard(NamedTuple):
    """One RFC or XEP: name, title, implemented version ('' for RFCs), how far."""

    name: str
    title: str
    version: str
    status: Literal['complete', 'partial']


STANDARDS: tuple[Standard, ...] = (
    Standard('RFC 6120', 'XMPP Core', '', 'complete'),
    Standard('RFC 6121', 'XMPP Instant Messaging and Presence', '', 'complete'),
    Standard('RFC 7590', 'Use of TLS in XMPP', '', 'complete'),
    Standard('RFC 7622', 'XMPP Address Format', '', 'complete'),
    Standard('RFC 5802', 'SCRAM-SHA-1', '', 'complete'),
    Standard('RFC 7677', 'SCRAM-SHA-256', '', 'complete'),
    Standard('XEP-0012', 'Last Activity', '2.0', 'complete'),
    Standard('XEP-0030', 'Service Discovery', '2.5', 'complete'),
    Standard('XEP-0033', 'Extended Stanza Addressing', '1.2.1', 'complete'),
    Standard('XEP-0054', 'vcard-temp', '1.2', 'complete'),
    Standard('XEP-0082', 'XMPP Date and Time Profiles', '1.1', 'complete'),
    Standard('XEP-0092', 'Software Version', '1.1', 'complete'),
    Standard('XEP-0106', 'JID Escaping', '1.1', 'complete'),
    Standard('XEP-0115', 'Entity Capabilities', '1.6.0', 'complete'),
    Standard('XEP-0128', 'Service Discovery Extensions', '1.0.1', 'complete'),
    Standard('XEP-0160', 'Best Practices for Handling Offline Messages', '1.0.1', 'complete'),
    Standard('XEP-0199', 'XMPP Ping', '2.0.1', 'complete'),
    Standard('XEP-0202', 'Entity Time', '2.0', 'complete'),
    Standard('XEP-0203', 'Delayed Delivery', '2.0', 'complete'),
    Standard('XEP-0237', 'Roster Versioning', '1.3', 'complete'),
)
