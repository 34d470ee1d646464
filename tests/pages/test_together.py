"""Rows that are done together: the cost of many, and the outcome of single ones when a row is refused late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from impadmin.console import actions, bulkwork, registry
from impadmin.console.actions import Change
from impadmin.console.models import AuditEntry
from impadmin.console.page import Page
from impadmin.ucm import actions as users
from impadmin.ucm.models import EndUser

USERS = registry.page('end-users')
assert isinstance(USERS, Page)


@pytest.mark.parametrize(('kind', 'most'), [(bulkwork.EDIT, 1), (bulkwork.DELETE, 0)])
def test_queries_that_each_row_costs(kind: str, most: int, make_user: Callable[..., Any]) -> None:
    counts = []
    for size in (5, 15):
        keys = [make_user(mail=f'{n}@example.com').pk for n in range(size)]
        with CaptureQueriesContext(connection) as queries:
            done = bulkwork.rows(actions.SYSTEM, USERS, kind, keys, {'department': 'Sales'}, False)
        assert sum(done.counts.values()) == size
        assert not done.counts.get('refused')
        counts.append(len(queries))
    assert counts[1] - counts[0] <= 10 * most, 'queries of ten more rows'
    assert counts[0] < 50


def test_a_row_the_database_refuses_leaves_the_others_done(
    make_user: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second row fails when it is written: all are taken back and done one by one."""
    first, second, *_ = people = [make_user(f'late{n}') for n in range(3)]
    derive = users.address_of
    monkeypatch.setattr(
        users, 'address_of', lambda user: first.im_address if user.pk == second.pk else derive(user)
    )  # as if somebody else took the address between check and save
    before = AuditEntry.objects.count()
    done = bulkwork.edit(actions.SYSTEM, USERS, [one.pk for one in people], {'department': 'Sales'})
    assert [(one.name, one.action, bool(one.problems)) for one in done.verdicts] == [
        ('late0', 'update', False),
        ('late1', 'update', True),
        ('late2', 'update', False),
    ]
    assert done.verdicts[1].problems[0][0] == 'user_id'
    found = EndUser.objects.filter(pk__in=[one.pk for one in people]).order_by('user_id')
    assert list(found.values_list('department', flat=True)) == ['Sales', '', 'Sales']
    entries = list(AuditEntry.objects.order_by('pk')[before:])
    assert [entry.object_label for entry in entries] == ['late0', 'late2']
    assert entries[0].batch == entries[1].batch != ''


def test_a_row_that_is_there_twice_sees_its_first_change(make_user: Callable[..., Any]) -> None:
    user = make_user('twice')
    changes = [Change('update', {'department': name}, user) for name in ('Sales', 'Support')]
    verdicts = actions.do_changes(actions.SYSTEM, USERS, changes)
    assert [one.changes[0][1:] for one in verdicts] == [('', 'Sales'), ('Sales', 'Support')]
    gone = actions.do_changes(actions.SYSTEM, USERS, [Change('delete', obj=user)] * 2)
    assert [bool(one.problems) for one in gone] == [False, True]


def test_deleted_together_users_leave_the_lists_of_the_others(make_user: Callable[..., Any]) -> None:
    from impadmin.ucm.models import RosterItem

    stays, *go = (make_user(f'friend{n}') for n in range(3))
    RosterItem.objects.bulk_create(
        RosterItem(user=owner, jid=other.im_address, subscription=3)
        for owner in (stays, *go)
        for other in (stays, *go)
        if other is not owner
    )
    done = bulkwork.delete(actions.SYSTEM, USERS, [one.pk for one in go])
    assert done.counts == {'deleted': 2}
    assert set(stays.roster.values_list('jid', 'subscription')) == {(one.im_address, 0) for one in go}
    stays.refresh_from_db()
    assert (stays.contact_count, stays.watcher_count, stays.roster_version) == (2, 0, 1)
    assert not RosterItem.objects.filter(user__in=[one.pk for one in go]).exists()
