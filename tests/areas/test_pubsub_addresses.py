"""Publish-subscribe follows IM addresses: the change of the default domain, its cancellation, one user's change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone


@pytest.fixture
def nodes(make_user: Callable[..., Any]) -> Any:
    """Ann and bob know each other's addresses at a node of the service, in every role."""
    from impadmin.presence.models import PubSubAffiliation, PubSubItem, PubSubNode, PubSubSubscription

    for name in ('ann', 'bob'):
        make_user(name)
    node = PubSubNode.objects.create(name='news', creator='ann@example.com')
    for jid, value in (('ann@example.com', 'owner'), ('bob@example.com', 'member'), ('x@else.example', 'outcast')):
        PubSubAffiliation.objects.create(node=node, jid=jid, affiliation=value)
    for jid in ('ann@example.com', 'bob@example.com/desk', 'x@else.example'):
        PubSubSubscription.objects.create(node=node, jid=jid, bare=jid.partition('/')[0], subid=jid[:3])
    PubSubItem.objects.create(node=node, item_id='1', publisher='bob@example.com', payload=b'<x/>', at=timezone.now())
    return node


def state() -> Any:
    """Everything that names somebody."""
    from impadmin.presence.models import PubSubAffiliation, PubSubItem, PubSubNode, PubSubSubscription

    return (
        sorted(PubSubAffiliation.objects.values_list('jid', 'affiliation')),
        sorted(PubSubSubscription.objects.values_list('jid', 'bare', 'subid')),
        PubSubNode.objects.get().creator,
        PubSubItem.objects.get().publisher,
    )


def mapped(**pairs: str) -> None:
    """The mapping of an address change under way."""
    from impadmin.presence.models import AddressChange
    from impadmin.ucm.models import EndUser

    for name, new in pairs.items():
        user = EndUser.objects.get(user_id=name)
        AddressChange.objects.create(user=user, old=user.im_address, new=new)


def test_swapped_addresses_and_back(nodes: Any) -> None:
    from impadmin.presence.models import AddressJournal
    from impadmin.ucm import rekey_pubsub

    before = state()
    mapped(ann='bob@example.com', bob='ann@example.com')
    rekey_pubsub.rekey('address_change', journal=True)
    assert state() == (
        [('ann@example.com', 'member'), ('bob@example.com', 'owner'), ('x@else.example', 'outcast')],
        [
            ('ann@example.com/desk', 'ann@example.com', 'bob'),
            ('bob@example.com', 'bob@example.com', 'ann'),
            ('x@else.example', 'x@else.example', 'x@e'),
        ],
        'bob@example.com',
        'ann@example.com',
    )
    rekey_pubsub.restore('address_change')
    assert state() == before
    assert not AddressJournal.objects.exists()


def test_one_user(nodes: Any) -> None:
    from impadmin.ucm import rekey
    from impadmin.ucm.models import EndUser

    with transaction.atomic():
        rekey.rekey_user(EndUser.objects.get(user_id='ann').pk, 'ann@example.com', 'anna@new.example')
    assert ('anna@new.example', 'owner') in state()[0]
    assert state()[2] == 'anna@new.example'
