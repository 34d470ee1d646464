"""Writers of end users and application users where the generic ones do not suffice."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection
from django.utils import timezone
from django.utils.translation import gettext as _

from engine.contract.credentials import verifiers
from engine.contract.events import ContactListsChanged, UsersChanged
from impadmin.console import generations, together
from impadmin.console.actions import Actor
from impadmin.console.administrators import take_password
from impadmin.presence import inventory
from impadmin.presence.change_guard import guard
from impadmin.system import redundancy
from impadmin.system.models import Node
from impadmin.ucm import rekey
from impadmin.ucm.addresses import address_of, source_field
from impadmin.ucm.models import EndUser

_CHUNK = 1000


def announce_users(ids: Iterable[int]) -> None:
    """Tell the nodes, in messages of a bounded size, that these users changed."""
    together.merged(_announce_users, ids)


def _announce_users(ids: Iterable[int]) -> None:
    listed = sorted(set(ids))
    for start in range(0, len(listed), _CHUNK):
        generations.announce(UsersChanged(listed[start : start + _CHUNK]))


def announce_contact_lists(ids: Iterable[int]) -> None:
    """Tell the nodes that these contact lists were written from outside."""
    together.merged(_announce_contact_lists, ids)


def _announce_contact_lists(ids: Iterable[int]) -> None:
    listed = sorted(set(ids))
    for start in range(0, len(listed), _CHUNK):
        generations.announce(ContactListsChanged(listed[start : start + _CHUNK]))


def _set_password(user: EndUser, password: str) -> None:
    try:
        user.credentials = verifiers(password)
    except ValueError:
        raise ValidationError(
            {'password': _('The password has a character that is not allowed. Use letters, digits and signs.')}
        ) from None


def _save(user: EndUser, names: Iterable[str] | None = None) -> None:
    """Save (only these fields); two at the same moment with one address are told apart by the database."""
    try:
        with together.savepoint():
            user.save(update_fields=names)
    except IntegrityError as error:
        ours = (name for name in ('user_id', 'extension') if name in str(error))
        field = next(ours, '') or source_field(inventory.advanced())
        raise ValidationError({field: _('Another user has this value already.')}) from error


def create_user(actor: Actor, values: Mapping[str, Any]) -> EndUser:
    """Add an end user; the IM address is derived."""
    guard()
    rest, password = take_password(actor, values)
    user = EndUser(**rest)
    if user.im_enabled:
        redundancy.guard()
    if password:
        _set_password(user, password)
    user.im_address = address_of(user)
    _save(user)
    inventory.moved([(set(), inventory.domains_of(user.im_address, user.directory_uri))])
    announce_users([user.pk])
    return user


def update_user(actor: Actor, user: EndUser, values: Mapping[str, Any]) -> EndUser:
    """Change an end user; when the IM address changes, everything stored under the old one follows."""
    guard()
    rest, password = take_password(actor, values)
    before = copy.copy(user)
    for name, value in rest.items():
        setattr(user, name, value)
    if (user.im_enabled and not before.im_enabled) or user.home_node_id not in (None, before.home_node_id):
        redundancy.guard()
    if password:
        _set_password(user, password)
    user.im_address = address_of(user)
    # only these: the engine writes the others, and a change of another user's address the counts of contacts
    _save(user, {*rest, *(['credentials'] if password else []), 'im_address', 'updated_at'})
    if before.im_address and user.im_address and before.im_address != user.im_address:
        announce_contact_lists(rekey.rekey_user(user.pk, before.im_address, user.im_address))
        user.refresh_from_db()
    inventory.moved(
        [
            (
                inventory.domains_of(before.im_address, before.directory_uri),
                inventory.domains_of(user.im_address, user.directory_uri),
            )
        ]
    )
    announce_users([user.pk])
    return user


def delete_users(actor: Actor, users: Sequence[EndUser]) -> None:
    """Delete end users with contact lists, offline messages and vCards.

    Entries that others hold for them stay in their lists, without any subscription: what RFC 6121 leaves behind
    when the contact cancels in both directions. Entries that were no contacts (a pending request, a mere watcher) go.
    """
    guard()
    written = forget_contacts([user.im_address for user in users if user.im_address])
    inventory.moved([(inventory.domains_of(user.im_address, user.directory_uri), set()) for user in users])
    announce_users([user.pk for user in users])
    announce_contact_lists(written)
    EndUser.objects.filter(pk__in=[user.pk for user in users]).delete()


def forget_contacts(addresses: list[str]) -> list[int]:
    """End every subscription with ``addresses`` in the lists of the others; ids of the lists that were written."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT DISTINCT user_id FROM roster_item WHERE jid = ANY(%s)', [addresses])
        owners = [row[0] for row in cursor.fetchall()]
        if not owners:
            return []
        rekey.lock(owners)
        cursor.execute('DELETE FROM roster_item WHERE jid = ANY(%s) AND NOT is_contact', [addresses])
        cursor.execute(
            'UPDATE roster_item SET subscription = 0, ask = false, pending_in = false, approved = false, '
            'request = NULL WHERE jid = ANY(%s)',
            [addresses],
        )
    rekey.recount(owners)
    return owners


def assign(users: Sequence[EndUser], node: Node | None) -> list[tuple[EndUser, str]]:
    """Assign ``users`` to ``node`` (None: take the assignment away). Returns (user, reason) of those refused."""
    refused = []
    ids = []
    if node is not None:
        redundancy.guard()
    for user in users:
        if node is not None and not user.home_cluster:
            refused.append((user, _('another cluster is the home cluster')))
        elif node is not None and not user.im_enabled:
            refused.append((user, _('not enabled for IM and Presence')))
        elif user.home_node_id != (node.pk if node else None):
            ids.append(user.pk)
    EndUser.objects.filter(pk__in=ids).update(home_node=node, updated_at=timezone.now())
    announce_users(ids)
    return refused
