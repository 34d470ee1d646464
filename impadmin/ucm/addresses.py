"""How the IM address of a user follows from scheme, default domain, user ID and Directory URI (guide 1647-1702)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.contract.jid import im_address
from impadmin.presence import inventory
from impadmin.presence.models import AdvancedSettings
from impadmin.ucm.models import EndUser


def address_of(user: EndUser, settings: AdvancedSettings | None = None) -> str | None:
    """The IM address of ``user``, or None when the scheme gives none (no or wrong Directory URI)."""
    settings = settings or inventory.advanced()
    address = im_address(settings.address_scheme, settings.default_domain, user.user_id, user.directory_uri)
    return address or None


def source_field(settings: AdvancedSettings) -> str:
    """The field of a user that decides the address."""
    return 'user_id' if settings.address_scheme == 'userid' else 'directory_uri'


def derive_all(scheme: str, domain: str) -> Iterator[tuple[int, str, str, str | None, str | None]]:
    """(id, user ID, Directory URI, old address, new address) of every user under another scheme or domain."""
    rows: Iterable[tuple[int, str, str, str | None]] = EndUser.objects.order_by('id').values_list(
        'id', 'user_id', 'directory_uri', 'im_address'
    )
    for key, user_id, uri, old in rows.iterator(chunk_size=5000):  # type: ignore[attr-defined]
        yield key, user_id, uri, old, im_address(scheme, domain, user_id, uri) or None
