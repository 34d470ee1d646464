"""XEP-0115: the server's own capabilities hash for the stream features. Clients' caps travel in presence untouched."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from engine import features
from engine.features import disco
from engine.features.registry import xep
from engine.xmpp import ns

if TYPE_CHECKING:
    from engine.services.xcp_router.router import XcpRouter

XEP = xep(115, '1.6.0', server=(ns.CAPS,))
NODE = 'urn:imp:server'


def ver(router: XcpRouter) -> str:
    """The verification string of XEP-0115 5.1 over what disco#info says."""
    category, kind, name = disco.SERVER
    text = f'{category}/{kind}//{name}<' + ''.join(f'{feature}<' for feature in disco.features('server', router))
    text += f'{disco.SOFTWARE}<' + ''.join(f'{key}<{value}<' for key, value in disco.form())
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


def node(router: XcpRouter) -> str:
    """The disco node that stands for this hash."""
    return f'{NODE}#{ver(router)}'


def stream_feature(router: XcpRouter) -> bytes:
    """The <c/> of the stream features after login (``StreamSettings.features``)."""
    features.load()
    return f"<c xmlns='{ns.CAPS}' hash='sha-1' node='{NODE}' ver='{ver(router)}'/>".encode()
