"""What a client runs on, from what it says of itself: its resource, and what it answered to service discovery (XEP-0030
client types, the operating system of XEP-0232), which the server asks for anyway (features/pubsub/interests.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from engine.xmpp import ns

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from engine.session import Session

CLIENT: Final = 'client'
"""Key of the ``Client`` in the notes of a session."""
LENGTH: Final = 200
_SOFTWARE: Final = 'urn:xmpp:dataforms:softwareinfo'
_TABLETS: Final = ('tablet', '_tab', 'android tab')
_MOBILE: Final = frozenset(('phone', 'handheld', 'sms', 'tablet'))


class Client(NamedTuple):
    """What a client said to service discovery: those of its types that are mobile, and names of software and operating
    system in lower case."""

    types: frozenset[str] = frozenset()
    words: str = ''


UNKNOWN: Final = Client()


def described(query: Element) -> Client:
    """The client that answered a disco#info question."""
    identities = [one for one in query.findall(f'{{{ns.DISCO_INFO}}}identity') if one.get('category') == 'client']
    words = [one.get('name', '') for one in identities]
    field, value = f'{{{ns.DATA_FORMS}}}field', f'{{{ns.DATA_FORMS}}}value'
    for form in query.findall(f'{{{ns.DATA_FORMS}}}x'):
        fields = {one.get('var', ''): one.findtext(value) or '' for one in form.findall(field)}
        if fields.get('FORM_TYPE') == _SOFTWARE:
            words += [fields.get('os', ''), fields.get('software', '')]
    types = _MOBILE.intersection(one.get('type', '') for one in identities)
    return Client(types, ' '.join(words).lower()[:LENGTH])


def device_type(resource: str, client: Client = UNKNOWN) -> str:
    """Desktop, iPad, iPhone, Android; Mobile for a phone that does not say which. The product counts Android tablets as
    desktops (guide 7049)."""
    words = f'{resource.lower()} {client.words}'
    tablet = 'tablet' in client.types or any(word in words for word in _TABLETS)
    if 'ipad' in words:
        return 'iPad'
    if 'iphone' in words or 'ios' in words.split():
        return 'iPad' if tablet else 'iPhone'
    if tablet:
        return 'Desktop'
    if 'android' in words:
        return 'Android'
    return 'Mobile' if client.types else 'Desktop'


def device_of(session: Session) -> str:
    """The device type of a session."""
    return device_type(session.resource, (session.notes or {}).get(CLIENT, UNKNOWN))
