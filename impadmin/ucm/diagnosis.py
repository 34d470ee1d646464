"""Tests of the users for System Troubleshooter: category User configuration (guide 11243, 8448-8460, 5504, 8563)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.db.models import Count, QuerySet
from django.db.models.functions import Lower
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from impadmin.console.diagnosis import DETAILED, Check, Problem, Section, listed, register
from impadmin.console.facts import Facts
from impadmin.presence import inventory
from impadmin.presence.models import PresenceSettings
from impadmin.ucm import ldap_diagnosis as ldap_diagnosis
from impadmin.ucm.models import ODD_URI, EndUser
from impadmin.ucm.rules import directory_uri_error

SECTION = Section(gettext_lazy('User configuration'), 90)
FEW = 1000
"""Values that several users have, as far as one looks at first."""
LOOKED_AT = 10_000
"""Directory URIs of unusual form that one run of the test looks at."""


def _users(found: QuerySet[EndUser]) -> tuple[str, int]:
    """(the first ten by user ID, how many)"""
    first = list(found.order_by('user_id').values_list('user_id', flat=True)[:DETAILED])
    total = found.count() if len(first) == DETAILED else len(first)
    return listed(first, total), total


def _shared(field: str) -> Iterator[Problem]:
    """Users with a value that another user has too, compared without regard to case."""
    every = EndUser.objects.exclude(**{field: ''}).annotate(value=Lower(field)).order_by()
    found = every.values('value').annotate(owners=Count('*')).filter(owners__gt=1).order_by('value')  # reads the index
    pairs = found.values_list('value', 'owners')
    twice = list(pairs[:FEW])  # with a limit PostgreSQL reads the index in its order instead of hashing the table
    twice = list(pairs) if len(twice) == FEW else twice
    if total := sum(owners for _value, owners in twice):
        values = [value for value, _owners in twice[:DETAILED]]
        first = list(
            every.filter(value__in=values).order_by('value', 'user_id').values_list('user_id', field)[:DETAILED]
        )
        users = listed([f'{user_id} ({value})' for user_id, value in first], total)
        text = ngettext(
            '%(count)d user has a value that another user has too: %(users)s.',
            '%(count)d users have a value that another user has too: %(users)s.',
            total,
        )
        solution = _('Give each user a value of his own.')
        query = urlencode({'f': field, 'o': 'exactly', 'v': first[0][1]})
        yield Problem(text % {'count': total, 'users': users}, solution, query=query)


def user_ids(facts: Facts) -> Iterator[Problem]:
    """User IDs are unique."""
    return _shared('user_id')


def directory_uris(facts: Facts) -> Iterator[Problem]:
    """Directory URIs are unique."""
    return _shared('directory_uri')


def mail_ids(facts: Facts) -> Iterator[Problem]:
    """Mail IDs are unique."""
    return _shared('mail')


def uris_present(facts: Facts) -> Iterator[Problem]:
    """Every user has a Directory URI; without the Directory URI scheme its lack is only a warning."""
    users, total = _users(EndUser.objects.filter(ODD_URI, directory_uri='', im_enabled=True))
    if total:
        text = ngettext(
            '%(count)d user has no Directory URI: %(users)s.',
            '%(count)d users have no Directory URI: %(users)s.',
            total,
        )
        needed = facts(inventory.advanced).address_scheme == 'directory_uri'
        yield Problem(
            text % {'count': total, 'users': users},
            _('Enter a Directory URI; without it the user has no IM address.')
            if needed
            else _('Needed only when the IM address scheme becomes Directory URI.'),
            query=urlencode({'f': 'directory_uri', 'o': 'empty'}),
            warning=not needed,
        )


def uris_valid(facts: Facts) -> Iterator[Problem]:
    """Directory URIs have the form user@domain."""
    odd = EndUser.objects.filter(ODD_URI).exclude(directory_uri='').order_by('user_id')
    wrong = [
        (user_id, uri)
        for user_id, uri in odd.values_list('user_id', 'directory_uri')[:LOOKED_AT]
        if uri.count('@') > 1 or directory_uri_error(uri)
    ]
    if wrong:
        names = listed([f'{user_id} ({uri})' for user_id, uri in wrong])
        text = ngettext(
            '%(count)d Directory URI is not valid: %(users)s.',
            '%(count)d Directory URIs are not valid: %(users)s.',
            len(wrong),
        )
        query = urlencode({'f': 'user_id', 'o': 'exactly', 'v': wrong[0][0]})
        yield Problem(text % {'count': len(wrong), 'users': names}, _('Enter user@domain.'), query=query)


def _limits() -> Any:
    return PresenceSettings.objects.get_or_create(pk=1)[0]


def contact_limit(facts: Facts) -> Iterator[Problem]:
    """Nobody has reached the maximum contact list size (guide 5504)."""
    limit = facts(_limits).max_contacts
    if limit is None:
        return
    users, total = _users(EndUser.objects.filter(contact_count__gte=limit))
    if total:
        text = ngettext(
            '%(count)d user has reached the maximum contact list size of %(limit)d: %(users)s.',
            '%(count)d users have reached the maximum contact list size of %(limit)d: %(users)s.',
            total,
        )
        solution = _('They cannot add contacts. Raise the limit, or ask them to remove some.')
        shown = {'count': total, 'limit': limit, 'users': users}
        yield Problem(text % shown, solution, page='standard-configuration', warning=True)


register(
    Check(name='user-ids', section=SECTION, title=gettext_lazy('User IDs are unique'), page='end-users', run=user_ids),
    Check(name='uris-present', section=SECTION, title=gettext_lazy('Every user has a Directory URI'), page='end-users',
          run=uris_present),
    Check(name='uris-valid', section=SECTION, title=gettext_lazy('Directory URIs are valid'), page='end-users',
          run=uris_valid),
    Check(name='uris-unique', section=SECTION, title=gettext_lazy('Directory URIs are unique'), page='end-users',
          run=directory_uris),
    Check(name='mail-ids', section=SECTION, title=gettext_lazy('Mail IDs are unique'), page='end-users', run=mail_ids),
    Check(name='contact-limit', section=SECTION, title=gettext_lazy('No user is at the contact list limit'),
          page='standard-configuration', run=contact_limit),
)  # fmt: skip
