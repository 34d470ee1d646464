"""Writing users as a XEP-0227 document: SCRAM verifiers instead of passwords, contact list and open requests, offline
messages, vCard, private data, privacy lists, personal nodes (nodes.py). Users are read in pages, items a few at a time,
so memory stays level.

Not in the document: message archives, which XEP-0227 leaves to the server (4.11, MAY), and what users own at the
publish-subscribe service, which is outside of XEP-0227 (2).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from django.db.models import QuerySet

from engine.contract import pubsub_nodes
from engine.contract.privacy import Item, list_xml
from impadmin.messaging.models import OfflineMessage
from impadmin.presence.models import (
    PrivacyItem,
    PrivacyList,
    PrivateData,
    PubSubAffiliation,
    PubSubItem,
    PubSubNode,
    PubSubSubscription,
    VCard,
)
from impadmin.ucm.models import EndUser, RosterItem
from impadmin.ucm.portable import CLIENT, DELAY, NS, PRIVACY, PRIVATE, PUBSUB, ROSTER, SCRAM
from impadmin.ucm.portable import nodes as personal
from impadmin.ucm.portable.markup import attribute, text

PAGE = 200
SUBSCRIPTIONS = ('none', 'to', 'from', 'both')


def export(people: QuerySet[EndUser], out: TextIO) -> Counter[str]:
    """Write everybody of ``people`` who has an IM address; how many of what, also of what is left out."""
    counts: Counter[str] = Counter()
    out.write(f"<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='{NS}'>\n")
    counts['without address'] = people.filter(im_address=None).count()
    hosts: Iterable[str] = _hosts(people)
    for host in hosts:
        out.write(f"<host jid='{attribute(host)}'>\n")
        for page in _pages(people.filter(im_address__endswith=f'@{host}')):
            _write_page(page, out, counts)
        out.write('</host>\n')
    out.write('</server-data>\n')
    return counts


def _hosts(people: QuerySet[EndUser]) -> list[str]:
    addresses = people.exclude(im_address=None).order_by().values_list('im_address', flat=True)
    return sorted({(address or '').rpartition('@')[2] for address in addresses.iterator(chunk_size=5000)})


def _pages(people: QuerySet[EndUser]) -> Iterator[list[EndUser]]:
    after = 0
    while page := list(people.filter(pk__gt=after).order_by('pk')[:PAGE]):
        yield page
        after = page[-1].pk


def _of(rows: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.user_id].append(row)
    return found


def _write_page(page: list[EndUser], out: TextIO, counts: Counter[str]) -> None:
    ids = [user.pk for user in page]
    rosters = _of(RosterItem.objects.filter(user__in=ids).order_by('user_id', 'jid'))
    waiting = _of(OfflineMessage.objects.filter(user__in=ids).order_by('user_id', 'id'))
    private = _of(PrivateData.objects.filter(user__in=ids).order_by('user_id', 'id'))
    lists = _of(PrivacyList.objects.filter(user__in=ids).order_by('user_id', 'name'))
    items: dict[int, list[Item]] = defaultdict(list)
    for row in PrivacyItem.objects.filter(list__user__in=ids).order_by('list_id', 'order'):
        items[row.list_id].append(Item(row.order, row.type, row.value, row.allow, row.kinds))
    cards = dict(VCard.objects.filter(user__in=ids).values_list('user_id', 'xml'))
    nodes: dict[int | None, list[PubSubNode]] = defaultdict(list)
    for node in PubSubNode.objects.filter(owner__in=ids).order_by('owner_id', 'name'):
        nodes[node.owner_id].append(node)
    for user in page:
        local = (user.im_address or '').rpartition('@')[0]
        out.write(f"<user name='{attribute(local)}'>\n")
        _write_credentials(user, out)
        _write_roster(rosters[user.pk], out, counts)
        if messages := waiting[user.pk]:
            out.write('<offline-messages>\n')
            for message in messages:
                out.write(_message(message) + '\n')
            out.write('</offline-messages>\n')
        if data := private[user.pk]:
            out.write(f"<query xmlns='{PRIVATE}'>{''.join(row.xml for row in data)}</query>\n")
        if card := cards.get(user.pk):
            out.write(card + '\n')
        if own := lists[user.pk]:
            default = ''.join(f"<default name='{attribute(row.name)}'/>" for row in own if row.is_default)
            written = ''.join(list_xml(row.name, items[row.pk]) for row in own)
            out.write(f"<query xmlns='{PRIVACY}'>{default}{written}</query>\n")
        if mine := nodes[user.pk]:
            _write_nodes(user.im_address or '', mine, out, counts)
        out.write('</user>\n')
        counts['users'] += 1
        counts['offline messages'] += len(messages)
        counts['private data'] += len(data)
        counts['vCards'] += bool(card)
        counts['privacy lists'] += len(own)


def _write_nodes(address: str, rows: list[PubSubNode], out: TextIO, counts: Counter[str]) -> None:
    by_id = {row.pk: personal.Node(pubsub_nodes.load(row.config, personal=True)) for row in rows}
    for granted in PubSubAffiliation.objects.filter(node__in=by_id).order_by('node_id', 'jid'):
        by_id[granted.node_id].affiliations[granted.jid] = granted.affiliation
    for entry in PubSubSubscription.objects.filter(node__in=by_id).order_by('node_id', 'jid'):
        found = personal.Subscription(entry.subid, entry.pending, entry.deliver)
        by_id[entry.node_id].subscriptions[entry.jid] = found
    out.writelines(personal.owner_xml({row.name: by_id[row.pk] for row in rows}))
    out.write(f"<pubsub xmlns='{PUBSUB}'>\n")
    for row in rows:
        out.write(f"<items node='{attribute(row.name)}'>\n")
        published = PubSubItem.objects.filter(node=row).order_by('id') if row.items else PubSubItem.objects.none()
        for item in published.iterator(chunk_size=20):
            out.write(personal.item_xml(item.item_id, personal.Item(item.publisher, bytes(item.payload)), address))
            counts['items of personal nodes'] += 1
        out.write('</items>\n')
    out.write('</pubsub>\n')
    counts['personal nodes'] += len(rows)


def _write_credentials(user: EndUser, out: TextIO) -> None:
    for mechanism, (salt, iterations, stored, server) in sorted((user.credentials or {}).items()):
        out.write(
            f"<scram-credentials xmlns='{SCRAM}' mechanism='{attribute(mechanism)}'>"
            f'<iter-count>{iterations}</iter-count><salt>{salt}</salt><server-key>{server}</server-key><stored-key>{stored}</stored-key>'
            '</scram-credentials>\n'
        )


def _write_roster(rows: list[RosterItem], out: TextIO, counts: Counter[str]) -> None:
    out.write(f"<query xmlns='{ROSTER}'>")
    requests = []
    for row in rows:
        if row.is_contact or row.subscription or row.ask or row.approved:
            out.write(_item(row))
            counts['contacts'] += 1
        if row.pending_in:
            requests.append(row)
    out.write('</query>\n')
    for row in requests:
        stored = bytes(row.request or b'').decode()
        if stored.startswith('<presence'):
            out.write(f"<presence xmlns='{CLIENT}'{stored.removeprefix('<presence')}\n")
        else:
            out.write(f"<presence xmlns='{CLIENT}' from='{attribute(row.jid)}' type='subscribe'/>\n")
        counts['subscription requests'] += 1


def _item(row: RosterItem) -> str:
    attributes = f"jid='{attribute(row.jid)}' subscription='{SUBSCRIPTIONS[row.subscription]}'"
    if row.name:
        attributes += f" name='{attribute(row.name)}'"
    if row.ask:
        attributes += " ask='subscribe'"
    if row.approved:
        attributes += " approved='true'"
    groups = ''.join(f'<group>{text(group)}</group>' for group in row.groups)
    return f'<item {attributes}>{groups}</item>' if groups else f'<item {attributes}/>'


def _message(row: OfflineMessage) -> str:
    stanza = bytes(row.stanza).decode()
    at = row.stored_at.strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3] + 'Z'
    delay = f"<delay xmlns='{DELAY}' stamp='{at}'>Offline Storage</delay>"
    body = f"<message xmlns='{CLIENT}'{stanza.removeprefix('<message')}"
    if body.endswith('/>') and '<' not in body[1:]:
        return f'{body[:-2]}>{delay}</message>'
    end = body.rindex('</')
    return body[:end] + delay + body[end:]
