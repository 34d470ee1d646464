"""Administrators sign in by a real LDAP server: TLS, groups to roles, fallback, hostile user names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trustme
from django.test import Client
from django.utils import timezone

from impadmin.console.models import Administrator, ApiToken, AuditEntry, LoginFailure, Role
from impadmin.console.tokens import digest
from impadmin.signin import vouching
from impadmin.signin.models import ExternalGroup, LdapAuthentication
from tests.fixtures.data import PASSWORD, make_administrator
from tests.fixtures.directory import BASE, MANAGER, MANAGER_PASSWORD, PEOPLE_PASSWORD, Directory

PAGE = '/api/v1/ldap-administrators/'


@pytest.fixture
def settings_of(directory: Directory, api: Any) -> Any:
    """Saves settings through REST; returns the client."""
    client = api('administrator')

    def save(**values: Any) -> Any:
        body = {
            'enabled': True, 'servers': f'127.0.0.1:{directory.tls_port}', 'security': 'ldaps',
            'ca_certificate': directory.ca, 'bind_dn': MANAGER, 'search_base': f'ou=people,{BASE}',
            'group_base': f'ou=groups,{BASE}', 'timeout_s': 5,
        }  # fmt: skip
        answer = client.patch(PAGE, body | values)
        assert answer.status_code == 200, answer.content
        return client

    save()
    answer = client.post(f'{PAGE}set-password/', {'password': MANAGER_PASSWORD})
    assert answer.status_code == 200
    return save


def maps(directory: Directory, **groups: str) -> None:
    for name, role in groups.items():
        ExternalGroup.objects.create(
            source='ldap', name=directory.group(name).upper().replace(',', ' , '), role=Role.objects.get(name=role)
        )


def sign_in(username: str, password: str = PEOPLE_PASSWORD) -> Any:
    return Client().post('/login/', {'username': username, 'password': password})


def last_reason() -> str:
    return str(AuditEntry.objects.filter(action='sign-in-failed').latest('pk').after['reason'])


def test_sign_in_by_ldap(directory: Directory, settings_of: Any) -> None:
    maps(directory, operators='operator', outer='bulk_operator')
    assert sign_in('Ada').status_code == 302
    user = Administrator.objects.get(username__iexact='ada')
    assert (user.origin, [role.name for role in user.held_roles]) == ('ldap', ['operator'])
    assert not user.has_usable_password()
    assert AuditEntry.objects.filter(action='sign-in').latest('pk').after['method'] == 'LDAP'
    assert sign_in('ada').status_code == 302
    assert Administrator.objects.filter(username__iexact='ada').count() == 1
    LoginFailure.objects.all().delete()
    for name, password, reason in (
        ('ada', 'wrong', 'wrong password'),
        ('ada', '', 'empty password'),
        ('*', PEOPLE_PASSWORD, 'unknown user'),
        ('ada)(uid=*', PEOPLE_PASSWORD, 'unknown user'),
        ('nobody', PEOPLE_PASSWORD, 'unknown user'),
        ('cy', PEOPLE_PASSWORD, 'no group with a role'),
        ('bo', PEOPLE_PASSWORD, 'no group with a role'),
    ):
        answer = sign_in(name, password)
        assert answer.status_code == 200
        assert 'The user name or the password is wrong.' in answer.content.decode(), 'never more than that'
        assert last_reason() == reason, name
    settings_of(nested=True)
    assert sign_in('bo').status_code == 302
    assert [r.name for r in Administrator.objects.get(username='bo').held_roles] == ['bulk_operator']
    ExternalGroup.objects.filter(role__name='operator').delete()
    assert sign_in('ada').status_code == 200
    assert not Administrator.objects.get(username__iexact='ada').held_roles, 'who left the group has no role any more'


def test_tls_is_checked_and_the_test_command_says_what_is_wrong(directory: Directory, settings_of: Any) -> None:
    maps(directory, operators='operator')
    client = settings_of()
    assert client.post(f'{PAGE}test/').status_code == 200
    settings_of(security='starttls', servers=f'127.0.0.1:{directory.plain_port}')
    assert client.post(f'{PAGE}test/').status_code == 200
    assert sign_in('ada').status_code == 302
    for values, says in (
        ({'ca_certificate': trustme.CA().cert_pem.bytes().decode()}, 'certificate'),
        ({'servers': '127.0.0.1:9'}, '127.0.0.1:9'),
        ({'search_base': 'ou=nowhere,dc=example,dc=com'}, 'noSuchObject'),
        ({'bind_dn': f'cn=other,{BASE}'}, 'invalidCredentials'),
    ):
        settings_of(**values)
        answer = client.post(f'{PAGE}test/')
        assert answer.status_code == 409, values
        assert says in answer.content.decode(), answer.content
    settings_of(ca_certificate=trustme.CA().cert_pem.bytes().decode())
    assert sign_in('ada').status_code == 200
    assert last_reason().startswith('LDAP: ')
    row = LdapAuthentication.objects.get()
    assert MANAGER_PASSWORD not in row.bind_password
    assert MANAGER_PASSWORD not in str(list(AuditEntry.objects.values_list('before', 'after')))
    assert 'bind_password' not in client.get(PAGE).json()


def test_local_users_as_a_fallback(directory: Directory, settings_of: Any) -> None:
    maps(directory, operators='operator')
    make_administrator('operator', 'local')
    make_administrator('operator', 'ada')
    assert sign_in('local', PASSWORD).status_code == 302
    assert sign_in('ada').status_code == 200, 'a local name is not taken over by the directory'
    settings_of(local_users=False)
    assert sign_in('local', PASSWORD).status_code == 200
    assert last_reason() == 'local users are off'
    settings_of(local_users=False, servers='127.0.0.1:9')
    assert sign_in('local', PASSWORD).status_code == 302, 'nobody is locked out when the directory is down'


def test_who_comes_from_the_directory_is_changed_there(directory: Directory, settings_of: Any) -> None:
    maps(directory, operators='administrator')
    client = settings_of()
    assert sign_in('ada').status_code == 302
    url = f'/api/v1/application-users/{Administrator.objects.get(origin="ldap").pk}/'
    for change in ({'roles': ['operator']}, {'password': 'a new long word 5'}):
        answer = client.patch(url, change)
        assert answer.status_code == 400
        assert 'comes from the directory' in answer.content.decode()
    own = Administrator.objects.get(username='test-administrator')
    assert client.delete(f'/api/v1/application-users/{own.pk}/').status_code == 409
    other = make_administrator('administrator', 'second')
    assert client.delete(f'/api/v1/application-users/{other.pk}/').status_code == 204
    assert client.patch(url, {'is_active': False}).status_code == 200
    assert sign_in('ada').status_code == 200
    assert last_reason() == 'not active'


def test_tokens_and_sessions_last_as_long_as_the_directory_vouches(directory: Directory, settings_of: Any) -> None:
    """Read again when the last answer is old enough: groups, disabled accounts, people who left, a silent server."""
    maps(directory, operators='operator', outer='bulk_operator')
    browser = Client()
    assert browser.post('/login/', {'username': 'ada', 'password': PEOPLE_PASSWORD}).status_code == 302
    ada = Administrator.objects.get(username='ada')
    ApiToken.objects.create(name='t', administrator=ada, digest=digest('imp_ada'), scopes=['*:*'])

    def used(*, later: timedelta = timedelta()) -> int:
        """Status of a request with the token when the last answer is ``later`` old and nobody asked since."""
        Administrator.objects.filter(pk=ada.pk, vouched_at__isnull=False).update(vouched_at=timezone.now() - later)
        Administrator.objects.filter(pk=ada.pk).update(asked_at=None)
        return int(Client().get('/api/v1/end-users/', headers={'Authorization': 'Bearer imp_ada'}).status_code)

    old, within = timedelta(minutes=16), timedelta(minutes=14)
    group, people = directory.group('operators'), f'ou=people,{BASE}'
    assert used() == used(later=old) == 200
    directory.change(group, member=directory.person('cy'))
    assert used(later=within) == 200, 'not asked yet'
    assert used(later=old) == 401
    assert not Administrator.objects.get(pk=ada.pk).held_roles
    assert used() == 401
    ended = AuditEntry.objects.filter(action='vouching-ended')
    assert [entry.after['reason'] for entry in ended] == ['no group with a role'], 'told once'
    assert browser.get('/ucm/ucm/end-users/')['Location'].startswith('/login/'), 'the session ended, too'
    directory.change(group, member=directory.person('ada'))
    assert used() == 200, 'and works again, with the roles of the groups'

    directory.change(directory.person('ada'), userAccountControl='514')
    assert (used(later=within), used(later=old)) == (200, 401)
    assert ended.latest('pk').after['reason'] == 'disabled'
    directory.change(directory.person('ada'), userAccountControl='512')
    assert used() == 200
    settings_of(user_filter='(&(objectClass=person)(uid={user})(!(sn=ada)))')
    assert used(later=old) == 401
    assert ended.latest('pk').after['reason'] == 'unknown user'
    settings_of(user_filter='(uid={user})')
    assert used() == 200

    settings_of(servers='127.0.0.1:9')
    assert used(later=old) == 200, 'a short silence changes nothing'
    assert used(later=old + vouching.GRACE) == 503
    settings_of(enabled=False, search_base=people)
    assert used() == 401
    assert ended.latest('pk').after['reason'] == 'LDAP is off'
    assert ended.all().count() == 4


def test_a_hundred_requests_ask_once(directory: Directory, settings_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    maps(directory, operators='operator')
    assert sign_in('ada').status_code == 302
    ada, asked = Administrator.objects.get(username='ada'), []
    real = vouching.directory.look_up
    monkeypatch.setattr(vouching.directory, 'look_up', lambda *a: asked.append(a) or real(*a))
    Administrator.objects.update(vouched_at=timezone.now() - timedelta(hours=3))
    for _ in range(5):
        assert vouching.check(Administrator.objects.get(pk=ada.pk)).held_roles
    assert len(asked) == 1
    settings_of(servers='127.0.0.1:9')
    Administrator.objects.update(vouched_at=timezone.now() - timedelta(hours=3))
    Administrator.objects.update(asked_at=None)
    for _ in range(3):
        with pytest.raises(vouching.Silent):
            vouching.check(Administrator.objects.get(pk=ada.pk))
    assert len(asked) == 2, 'a directory that does not answer is left alone for a minute'


@pytest.mark.parametrize(
    ('attributes', 'expected'),
    [
        ({}, False),
        ({'useraccountcontrol': ['512']}, False),
        ({'useraccountcontrol': ['66050']}, True),
        ({'nsaccountlock': ['TRUE']}, True),
        ({'pwdaccountlockedtime': ['000001010000Z']}, True),
        ({'pwdaccountlockedtime': ['20261121120000Z']}, False),
    ],
)
def test_disabled_accounts(attributes: dict[str, list[str]], expected: bool) -> None:
    assert vouching.directory.is_disabled(attributes) is expected
