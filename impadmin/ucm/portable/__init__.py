"""Users with everything that is theirs, from and to other XMPP servers: the format of XEP-0227 (version 1.1).

``reading`` streams a document, ``importing`` checks and writes users, ``exporting`` writes a document, ``markup`` turns
elements into text.
"""

NS = 'urn:xmpp:pie:0'
OLD_NS = 'http://www.xmpp.org/extensions/xep-0227.html#ns'
SCRAM = 'urn:xmpp:pie:0#scram'
"""The old namespace is that of versions before 1.0; both are read."""
ROSTER = 'jabber:iq:roster'
PRIVATE = 'jabber:iq:private'
PRIVACY = 'jabber:iq:privacy'
BLOCKING = 'urn:xmpp:blocking'
VCARD = 'vcard-temp'
CLIENT = 'jabber:client'
PUBSUB = 'http://jabber.org/protocol/pubsub'
PUBSUB_OWNER = 'http://jabber.org/protocol/pubsub#owner'
DELAY = 'urn:xmpp:delay'
