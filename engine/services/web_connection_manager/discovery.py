"""XEP-0156: where BOSH and WebSocket are, as /.well-known/host-meta in XML (RFC 6415) and JSON.

Web servers of the domain either forward these two addresses to the node or carry a copy of what it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final
from xml.sax.saxutils import quoteattr

BOSH: Final = 'urn:xmpp:alt-connections:xbosh'
WEBSOCKET: Final = 'urn:xmpp:alt-connections:websocket'
XRD: Final = 'http://docs.oasis-open.org/ns/xri/xrd-1.0'


def _links(bosh: str, websocket: str) -> tuple[tuple[str, str], ...]:
    return ((BOSH, bosh), (WEBSOCKET, websocket))


def host_meta(bosh: str, websocket: str) -> tuple[str, str]:
    """Media type and text of the XML document."""
    links = ''.join(f'  <Link rel="{rel}" href={quoteattr(href)}/>\n' for rel, href in _links(bosh, websocket))
    return 'application/xrd+xml; charset=utf-8', f'<?xml version="1.0"?>\n<XRD xmlns="{XRD}">\n{links}</XRD>\n'


def host_meta_json(bosh: str, websocket: str) -> tuple[str, str]:
    """Media type and text of the JSON document."""
    links = [{'rel': rel, 'href': href} for rel, href in _links(bosh, websocket)]
    return 'application/json; charset=utf-8', json.dumps({'links': links}, indent=2) + '\n'


DOCUMENTS: Final[dict[str, Callable[[str, str], tuple[str, str]]]] = {
    '/.well-known/host-meta': host_meta,
    '/.well-known/host-meta.json': host_meta_json,
}
