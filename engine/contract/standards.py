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
    Standard('XEP-0004', 'Data Forms', '2.13.1', 'complete'),
    Standard('XEP-0012', 'Last Activity', '2.0', 'complete'),
    Standard('XEP-0013', 'Flexible Offline Message Retrieval', '1.2', 'complete'),
    Standard('XEP-0016', 'Privacy Lists', '1.7', 'complete'),
    Standard('XEP-0030', 'Service Discovery', '2.5', 'complete'),
    Standard('XEP-0033', 'Extended Stanza Addressing', '1.2.1', 'complete'),
    Standard('XEP-0048', 'Bookmarks', '1.2', 'complete'),
    Standard('XEP-0049', 'Private XML Storage', '1.2', 'complete'),
    Standard('XEP-0054', 'vcard-temp', '1.2', 'complete'),
    Standard('XEP-0055', 'Jabber Search', '1.3', 'complete'),
    Standard('XEP-0059', 'Result Set Management', '1.0', 'complete'),
    Standard('XEP-0060', 'Publish-Subscribe', '1.29.0', 'complete'),
    Standard('XEP-0066', 'Out of Band Data', '1.5', 'complete'),
    Standard('XEP-0068', 'Field Standardization for Data Forms', '1.3.0', 'complete'),
    Standard('XEP-0071', 'XHTML-IM', '1.5.4', 'complete'),
    Standard('XEP-0082', 'XMPP Date and Time Profiles', '1.1.1', 'complete'),
    Standard('XEP-0084', 'User Avatar', '1.1.4', 'complete'),
    Standard('XEP-0092', 'Software Version', '1.1', 'complete'),
    Standard('XEP-0106', 'JID Escaping', '1.1', 'complete'),
    Standard('XEP-0114', 'Jabber Component Protocol', '1.6', 'complete'),
    Standard('XEP-0115', 'Entity Capabilities', '1.6.0', 'complete'),
    Standard('XEP-0124', 'Bidirectional-streams Over Synchronous HTTP (BOSH)', '1.11.2', 'complete'),
    Standard('XEP-0126', 'Invisibility', '1.1', 'complete'),
    Standard('XEP-0128', 'Service Discovery Extensions', '1.0.1', 'complete'),
    Standard('XEP-0153', 'vCard-Based Avatars', '1.1.1', 'complete'),
    Standard('XEP-0156', 'Discovering Alternative XMPP Connection Methods', '1.4.0', 'complete'),
    Standard('XEP-0160', 'Best Practices for Handling Offline Messages', '1.0.1', 'complete'),
    Standard('XEP-0163', 'Personal Eventing Protocol', '1.2.2', 'complete'),
    Standard('XEP-0170', 'Recommended Order of Stream Feature Negotiation', '1.1', 'complete'),
    Standard('XEP-0172', 'User Nickname', '1.1', 'complete'),
    Standard('XEP-0178', 'Best Practices for Use of SASL EXTERNAL with Certificates', '1.2', 'complete'),
    Standard('XEP-0185', 'Dialback Key Generation and Validation', '1.0', 'complete'),
    Standard('XEP-0191', 'Blocking Command', '1.3', 'complete'),
    Standard('XEP-0198', 'Stream Management', '1.6', 'complete'),
    Standard('XEP-0199', 'XMPP Ping', '2.0.1', 'complete'),
    Standard('XEP-0202', 'Entity Time', '2.0', 'complete'),
    Standard('XEP-0203', 'Delayed Delivery', '2.0', 'complete'),
    Standard('XEP-0206', 'XMPP Over BOSH', '1.4', 'complete'),
    Standard('XEP-0220', 'Server Dialback', '1.1.1', 'complete'),
    Standard('XEP-0222', 'Persistent Storage of Public Data via PubSub', '1.0.1', 'complete'),
    Standard('XEP-0223', 'Persistent Storage of Private Data via PubSub', '1.1.1', 'complete'),
    Standard('XEP-0227', 'Portable Import/Export Format for XMPP-IM Servers', '1.1', 'complete'),
    Standard('XEP-0237', 'Roster Versioning', '1.3', 'complete'),
    Standard('XEP-0273', 'Stanza Interception and Filtering Technology (SIFT)', '0.4', 'complete'),
    Standard('XEP-0280', 'Message Carbons', '1.0.1', 'complete'),
    Standard('XEP-0288', 'Bidirectional Server-to-Server Connections', '1.0.1', 'complete'),
    Standard('XEP-0297', 'Stanza Forwarding', '1.0', 'complete'),
    Standard('XEP-0313', 'Message Archive Management', '1.1.1', 'complete'),
    Standard('XEP-0334', 'Message Processing Hints', '0.4.0', 'complete'),
    Standard('XEP-0344', 'Impact of TLS and DNSSEC on Dialback', '0.3', 'complete'),
    Standard('XEP-0352', 'Client State Indication', '1.0.0', 'complete'),
    Standard('XEP-0357', 'Push Notifications', '0.4.1', 'complete'),
    Standard('XEP-0359', 'Unique and Stable Stanza IDs', '0.7.0', 'complete'),
    Standard('XEP-0368', 'SRV records for XMPP over TLS', '1.1.0', 'complete'),
    Standard('XEP-0398', 'User Avatar to vCard-Based Avatars Conversion', '1.0.0', 'complete'),
    Standard('XEP-0402', 'PEP Native Bookmarks', '1.2.0', 'complete'),
    Standard('XEP-0440', 'SASL Channel-Binding Type Capability', '0.4.1', 'complete'),
    Standard('XEP-0441', 'Message Archive Management Preferences', '0.2.0', 'complete'),
    Standard('XEP-0474', 'SASL SCRAM Downgrade Protection', '0.5.0', 'complete'),
)
