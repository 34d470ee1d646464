"""User locations: items of each user's personal node for locations (XEP-0163, XEP-0080; docs/decisions/0029).

Import and export of User Location Migration (guide 10984-11011, 11114-11141).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from defusedxml import ElementTree
from django.db import connection
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy, gettext_noop

from engine.contract import pubsub_nodes
from engine.contract.events import PersonalItemsWritten
from engine.contract.pubsub_nodes import Limits, NodeConfig
from impadmin.bulkadmin import addressing, exporter, importer, locationfile, merge
from impadmin.bulkadmin.contactfile import NOT_LOCAL
from impadmin.bulkadmin.locationfile import ACCESS, IGNORE, ITEM_ID, NODE, Row
from impadmin.bulkadmin.merge import Merged
from impadmin.console.bulk import free_line
from impadmin.console.generations import announce
from impadmin.presence.models import PubSubItem
from impadmin.ucm.portable.markup import written
from impadmin.ucm.portable.node_rows import limits

IMPORT_KIND, EXPORT_KIND = 'import_locations', 'export_locations'
LETTERS = {'whitelist': 'W', 'authorize': 'W', 'presence': 'R', 'roster': 'R', 'open': 'O'}
"""Access models as the file knows them: who is listed, who is in the contact list, everybody."""
_STRICT = 'WRO'
NO_RESOURCE = 'unknown'
"""Resource ID of an item that no client published: the column must not be empty (guide 11139)."""

NEWER = gettext_noop('A newer location is stored')
TOO_MANY = gettext_noop('The user has the maximum number of locations')
TOO_LARGE = gettext_noop('The storage of the user is full')
NODES = gettext_noop('The user has the maximum number of personal nodes')


@dataclass(slots=True)
class Place:
    """A user's node, locked: what it holds, and what is to be written. ``used`` is what all nodes of the user hold."""

    id: int
    config: NodeConfig
    items: int
    size: int
    used: int
    changed: bool = False
    touched: bool = False


def store(rows: Sequence[Row]) -> Merged:
    """Publish rows in the name of their users. Runs in the caller's transaction."""
    bounds = limits()
    users = merge.lock({row.owner for row in rows})
    ids = {user.id: row.access for row in reversed(rows) if (user := users.get(row.owner)) and user.eligible}
    places = _places(ids, bounds)
    stored = _stored(rows, users, places)
    fresh: dict[tuple[int, str], Row] = {}
    result = Merged()
    for row in rows:
        user = users.get(row.owner)
        if user is None or not user.eligible:
            result.verdicts.append(NOT_LOCAL)
        elif (place := places.get(user.id)) is None:
            result.verdicts.append(NODES)
        else:
            result.verdicts.append(_publish(row, place, stored, fresh, bounds))
    changed = [place for place in places.values() if place.touched or place.changed]
    _write(fresh, changed)
    result.touched = sorted(user for user, place in places.items() if place.touched)
    return result


def _publish(
    row: Row, place: Place, stored: dict[tuple[int, str], Any], fresh: dict[tuple[int, str], Row], bounds: Limits
) -> str:
    """The verdict on one row."""
    key = (place.id, row.item)
    before = stored.get(key)
    if before is not None and before[0] > row.at:
        return NEWER
    weight = len(row.payload) + len(row.item)
    if before is None and place.items >= bounds.items:
        return TOO_MANY
    more = weight - (before[1] if before is not None else 0)
    if len(row.payload) > bounds.payload or (more > 0 and place.used + more > bounds.storage):
        return TOO_LARGE
    access = _access(place, row.access)
    if access != place.config.access_model or not place.config.persist_items or place.config.max_items is not None:
        place.config = msgspec.structs.replace(place.config, access_model=access, persist_items=True, max_items=None)
        place.changed = True
    if before is None or before[2:] != (row.resource, row.payload) or before[0] != row.at:
        stored[key] = (row.at, weight, row.resource, row.payload)
        fresh[key] = row
        place.items += before is None
        place.size += more
        place.used += more
        place.touched = True
    return ''


def _access(place: Place, letter: str) -> str:
    """The access model after a row: what is there already is never opened to more people by an import."""
    now = LETTERS[place.config.access_model]
    stricter = _STRICT.index(letter) < _STRICT.index(now)
    return ACCESS[letter] if stricter or (not place.items and letter != now) else place.config.access_model


def _places(wanted: Mapping[int, str], bounds: Limits) -> dict[int, Place]:
    """The nodes of these users (id -> access type for a new one), locked in order; made where there is none and the
    user may have one more."""
    ids = sorted(wanted)
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT owner_id, count(*), sum(size), bool_or(name = %s) FROM pubsub_node WHERE owner_id = ANY(%s)'
            ' GROUP BY owner_id',
            [NODE, ids],
        )
        known = {row[0]: row[1:] for row in cursor.fetchall()}
        new = [pk for pk in ids if pk not in known or not (known[pk][2] or known[pk][0] >= bounds.nodes)]
        configs = {
            letter: msgspec.json.encode(
                pubsub_nodes.dump(NodeConfig(access_model=model, max_items=None), personal=True)
            ).decode()
            for letter, model in ACCESS.items()
        }
        cursor.execute(
            'INSERT INTO pubsub_node (owner_id, creator, name, config, items, size, created_at)'
            " SELECT id, '', %s, config, 0, 0, now() FROM unnest(%s::bigint[], %s::jsonb[]) AS n (id, config)"
            ' ON CONFLICT DO NOTHING',
            [NODE, new, [configs[wanted[pk]] for pk in new]],
        )
        cursor.execute(
            'SELECT owner_id, id, config::text, items, size FROM pubsub_node WHERE name = %s AND owner_id = ANY(%s)'
            ' ORDER BY id FOR NO KEY UPDATE',
            [NODE, ids],
        )
        return {
            row[0]: Place(
                row[1],
                pubsub_nodes.load(msgspec.json.decode(row[2]), personal=True),
                row[3],
                row[4],
                int(known[row[0]][1]) if row[0] in known else 0,
            )
            for row in cursor.fetchall()
        }


def _stored(
    rows: Iterable[Row], users: Mapping[str, merge.User], places: Mapping[int, Place]
) -> dict[tuple[int, str], Any]:
    """(at, bytes, resource, payload) of the stored items these rows are about, by node and item id."""
    pairs = sorted(
        {(places[user.id].id, row.item) for row in rows if (user := users.get(row.owner)) and user.id in places}
    )
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT i.node_id, i.item_id, i.at, i.resource, i.payload'
            ' FROM unnest(%s::bigint[], %s::varchar[]) AS k (n, i)'
            ' JOIN pubsub_item i ON i.node_id = k.n AND i.item_id = k.i',
            [[pair[0] for pair in pairs], [pair[1] for pair in pairs]],
        )
        return {
            (row[0], row[1]): (row[2], len(row[4]) + len(row[1].encode()), row[3], bytes(row[4]))
            for row in cursor.fetchall()
        }


def _write(fresh: Mapping[tuple[int, str], Row], changed: Sequence[Place]) -> None:
    """Store new and replaced items so that the newest of a node is its last one, and bring the nodes up to date."""
    keys = sorted(fresh, key=lambda key: (key[0], fresh[key].at))
    with connection.cursor() as cursor:
        if keys:
            cursor.execute(
                'DELETE FROM pubsub_item i USING unnest(%s::bigint[], %s::varchar[]) AS k (n, i)'
                ' WHERE i.node_id = k.n AND i.item_id = k.i',
                [[key[0] for key in keys], [key[1] for key in keys]],
            )
            with cursor.copy(
                'COPY pubsub_item (node_id, item_id, publisher, resource, payload, at) FROM STDIN'
            ) as copy:
                for node, item in keys:
                    row = fresh[node, item]
                    copy.write_row((node, item, row.owner, row.resource, row.payload, row.at))
            cursor.execute(_IN_ORDER, [[place.id for place in changed]])
        if changed:
            configs = [
                msgspec.json.encode(pubsub_nodes.dump(place.config, personal=True)).decode() for place in changed
            ]
            cursor.execute(
                'UPDATE pubsub_node n SET items = c.items, size = c.size, config = c.config'
                ' FROM unnest(%s::bigint[], %s::integer[], %s::bigint[], %s::jsonb[]) AS c (id, items, size, config)'
                ' WHERE n.id = c.id',
                [
                    [place.id for place in changed],
                    [place.items for place in changed],
                    [place.size for place in changed],
                    configs,
                ],
            )


_IN_ORDER = """
WITH wrong AS (
    SELECT DISTINCT node_id FROM (
        SELECT node_id, at < lag(at) OVER (PARTITION BY node_id ORDER BY id) AS later FROM pubsub_item
        WHERE node_id = ANY(%s)
    ) AS items WHERE later
), ordered AS (
    SELECT id, nextval(pg_get_serial_sequence('pubsub_item', 'id')) AS place FROM (
        SELECT id FROM pubsub_item WHERE node_id IN (SELECT node_id FROM wrong) ORDER BY node_id, at, id
    ) AS items
)
UPDATE pubsub_item i SET id = ordered.place FROM ordered WHERE i.id = ordered.id
"""
"""The id of an item is its place in its node; an imported item may be older than one that is there."""


def _announce(ids: Iterable[int]) -> None:
    announce(PersonalItemsWritten(ids=sorted(ids), node=NODE))


importer.register(
    importer.Import(
        kind=IMPORT_KIND,
        label=gettext_lazy('Import User Location Details'),
        noun='Locations',
        parser=lambda: locationfile.parse,
        subject=locationfile.subject,
        merge=store,
        announce=_announce,
    )
)


def count() -> int:
    """Locations of the cluster."""
    return _all().count()


def _all() -> QuerySet[PubSubItem]:
    return PubSubItem.objects.filter(node__name=NODE, node__owner__im_address__isnull=False)


def select(chosen: Mapping[str, Any], counts: dict[str, int]) -> exporter.Selection:
    """Every location of the cluster, in order of user ID and publication."""
    cell = exporter.cell(chosen)
    found = _all()

    def records() -> Iterator[list[str]]:
        ordered = found.order_by('node__owner__user_id', 'id').values_list(
            'node__owner__im_address', 'node__config', 'at', 'item_id', 'resource', 'payload'
        )
        for owner, config, at, item, resource, payload in ordered.iterator(chunk_size=exporter.STEP):
            text = _one_line(bytes(payload).decode())
            if not locationfile.is_location(text) or len(text) > locationfile.TEXT:
                counts['skipped'] += 1
                yield []
                continue
            counts['locations'] += 1
            access = LETTERS[pubsub_nodes.load(config, personal=True).access_model]
            identity = item if ITEM_ID.fullmatch(item) else IGNORE
            cells = (addressing.shown(owner), access, locationfile.shown(at), identity, resource or NO_RESOURCE, text)
            yield [free_line([cell(value) for value in cells])]

    return found.count(), records()


def _one_line(text: str) -> str:
    """A payload without line breaks, otherwise as it was published."""
    if '\n' not in text and '\r' not in text:
        return text
    return written(ElementTree.fromstring(text)).replace('\r', '').replace('\n', '&#10;')


exporter.register(
    exporter.Export(
        kind=EXPORT_KIND,
        label=gettext_lazy('Export User Location Details'),
        counted='locations',
        noun='Locations',
        counts=(('skipped', 'Locations that the file cannot hold, not exported'),),
        nothing=gettext_noop('There are no user locations.'),
        select=select,
    )
)
