"""Signing in: logon message, password rules, lockout, sessions, second factor, and what the history keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pyotp
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from impadmin.console.models import Administrator, ApiToken, AuditEntry, LoginFailure, Role
from impadmin.signin import totp, vault
from impadmin.signin.models import (
    AdministratorSession,
    LogonMessage,
    PasswordRecord,
    RecoveryCode,
    SecondFactor,
    SignInPolicy,
    policy,
)
from tests.fixtures.data import PASSWORD, make_administrator
from tests.proves import proves

NEW = 'another long word 7'
MESSAGE = '/os/signin/customized-logon-message/'


@pytest.fixture
def olga(db: None) -> Administrator:
    found: Administrator = make_administrator('operator', 'olga')
    return found


def sign_in(client: Client, password: str = PASSWORD, username: str = 'olga', **more: str) -> Any:
    return client.post('/login/', {'username': username, 'password': password, **more})


def rules(**values: Any) -> None:
    policy()
    SignInPolicy.objects.filter(pk=1).update(**values)


def actions() -> list[str]:
    return list(AuditEntry.objects.filter(object_type='signin.SignIn').order_by('pk').values_list('action', flat=True))


def reasons() -> list[str]:
    entries = AuditEntry.objects.filter(action='sign-in-failed').order_by('pk')
    return [entry.after['reason'] for entry in entries]


# ---- logon message


@proves('SEC-02')
@pytest.mark.parametrize(
    ('name', 'content', 'says'),
    [
        ('m.html', b'<b>x</b>', 'ends in .txt'),
        ('m.txt', b'\xff\xfe\x00', 'not text in UTF-8'),
        ('m.txt', b'a\x00b', 'no text'),
        ('m.txt', b'  \n', '1 to 10000'),
        ('m.txt', b'x' * 10_001, '1 to 10000'),
    ],
)
def test_only_plain_text_becomes_the_message(name: str, content: bytes, says: str, admin_client: Any) -> None:
    data = {'file': SimpleUploadedFile(name, content), 'confirmed': '1'}
    answer = admin_client().post(f'{MESSAGE}do/upload/', data)
    assert says in answer.content.decode()
    assert not LogonMessage.objects.exclude(text='').exists()


@proves('SEC-02', 'SEC-03')
def test_the_message_is_acknowledged_before_and_after(admin_client: Any, api: Any, olga: Administrator) -> None:
    text = 'Authorised use only.\r\n<script>alert(1)</script> 承認された利用のみ'
    data = {'file': SimpleUploadedFile('rules.txt', text.encode()), 'confirmed': '1'}
    assert admin_client().post(f'{MESSAGE}do/upload/', data).status_code == 302
    client = Client()
    page = client.get('/login/').content.decode()
    assert '&lt;script&gt;alert(1)&lt;/script&gt; 承認された利用のみ' in page
    refused = sign_in(client)
    assert refused.status_code == 200
    assert 'acknowledge it to sign in' in refused.content.decode()
    assert not LoginFailure.objects.exists()
    answer = sign_in(client, acknowledge='1', next='/ucm/ucm/end-users/')
    assert answer['Location'] == '/login/steps/'
    for console in ('/admin/', '/ucm/', '/os/', '/serviceability/', '/account/', '/search/'):
        assert client.get(console)['Location'] == '/login/steps/', 'nothing opens before it is acknowledged'
    assert client.get('/api/v1/domains/').status_code in (401, 403)
    assert '&lt;script&gt;' in client.get('/login/steps/').content.decode()
    assert client.post('/login/steps/').status_code == 200
    assert client.get('/ucm/')['Location'] == '/login/steps/'
    assert client.post('/login/steps/', {'acknowledge': '1'})['Location'] == '/ucm/ucm/end-users/'
    assert client.get('/ucm/ucm/end-users/').status_code == 200
    assert actions()[-2:] == ['sign-in', 'message-acknowledged']
    assert api('operator').get('/api/v1/domains/').status_code == 200, 'tokens are not asked'
    assert admin_client().post(f'{MESSAGE}do/delete/', {'confirmed': '1'}).status_code == 302
    assert 'Authorised use only' not in Client().get('/login/').content.decode()


# ---- passwords


def test_the_policy_rules_passwords(api: Callable[..., Any], olga: Administrator) -> None:
    client, url = api('administrator'), f'/api/v1/application-users/{olga.pk}/'
    rules(min_length=14, min_classes=3, history=2)
    for password, says in (
        ('Short1 word', 'at least 14'),
        ('all small letters', 'Use 3 of these'),
        ('my olga is Great 1', 'contains the user ID'),
        (PASSWORD, 'You had this password before'),
    ):
        answer = client.patch(url, {'password': password})
        assert answer.status_code == 400, password
        assert says in str(answer.json()['errors']['password'])
    for password in ('First new word 1', 'Second new word 2', 'Third new word 3'):
        assert client.patch(url, {'password': password}).status_code == 200
    assert client.patch(url, {'password': 'Second new word 2'}).status_code == 400
    assert client.patch(url, {'password': 'First new word 1'}).status_code == 200, 'longer ago than remembered'
    assert AuditEntry.objects.filter(action='update', before__has_key='password').count() == 0
    assert all(record.hash.startswith('argon2') for record in PasswordRecord.objects.all())


def test_an_expired_password_is_replaced_before_anything_else(olga: Administrator) -> None:
    rules(max_age_days=30)
    PasswordRecord.objects.filter(administrator=olga).update(at=timezone.now() - timedelta(days=31))
    client, other = Client(), Client()
    for one in (other, client):
        assert sign_in(one)['Location'] == '/login/steps/'
    assert client.get('/ucm/')['Location'] == '/login/steps/'
    form = {'password': 'wrong', 'new': NEW, 'again': NEW}
    assert 'present password is wrong' in client.post('/login/steps/', form).content.decode()
    form['password'] = PASSWORD
    assert 'passwords differ' in client.post('/login/steps/', {**form, 'again': 'x'}).content.decode()
    assert client.post('/login/steps/', form)['Location'] == '/'
    assert client.get('/ucm/ucm/end-users/').status_code == 200
    assert other.get('/ucm/')['Location'].startswith('/login/?'), 'other sessions end with the old password'
    assert sign_in(Client(), NEW)['Location'] == '/'


# ---- lockout


def test_lockout_per_account_and_per_address(olga: Administrator, admin_client: Any) -> None:
    rules(failures=3, account_failures=5, address_failures=6)
    near, far = Client(REMOTE_ADDR='192.0.2.1'), Client(REMOTE_ADDR='192.0.2.2')
    assert [sign_in(near, 'x').status_code for _ in range(4)] == [200, 200, 200, 429]
    assert [sign_in(far, 'x').status_code for _ in range(3)] == [200, 200, 429], 'five from anywhere'
    assert sign_in(Client(REMOTE_ADDR='192.0.2.3')).status_code == 429
    for name in ('nobody', 'nobody2', 'nobody3'):
        assert sign_in(near, 'x', name).status_code == 200
    answer = sign_in(near, 'x', 'nobody4')
    assert answer.status_code == 429, 'six from one address, whoever it was'
    known, unknown = (sign_in(Client(), 'x', name).content.decode() for name in ('test-administrator', 'ghost'))
    assert known.count('The user name or the password is wrong.') == unknown.count('The user name or the password is wrong.') == 1  # fmt: skip  # noqa: E501
    assert set(reasons()) == {'wrong password', 'unknown user'}
    assert actions().count('sign-in-locked') == 3
    admin = admin_client()
    users = '/ucm/ucm/application-users/'
    assert 'Locked' in admin.get(users).content.decode()
    assert admin.post(f'{users}{olga.pk}/do/unlock/', {'confirmed': '1'}).status_code == 302
    assert sign_in(Client(REMOTE_ADDR='192.0.2.3')).status_code == 302
    LoginFailure.objects.update(at=timezone.now() - timedelta(minutes=6))
    assert sign_in(near).status_code == 302, 'time unlocks, too'


# ---- sessions


def test_sessions_are_listed_revoked_and_end_by_themselves(olga: Administrator, admin_client: Any) -> None:
    here, there = Client(HTTP_USER_AGENT='Here/1'), Client(HTTP_USER_AGENT='<b>There</b>/2', REMOTE_ADDR='192.0.2.7')
    assert sign_in(here).status_code == sign_in(there).status_code == 302
    shown = here.get('/account/').content.decode()
    assert 'Here/1' in shown
    assert '&lt;b&gt;There&lt;/b&gt;/2' in shown
    assert '192.0.2.7' in shown
    boss = admin_client()
    assert '192.0.2.7' in boss.get('/ucm/signin/administrator-sessions/').content.decode()
    row = AdministratorSession.objects.get(address='192.0.2.7')
    assert here.post('/account/', {'do': 'end', 'session': str(row.pk)}).status_code == 302
    assert there.get('/account/')['Location'].startswith('/login/')
    assert sign_in(there).status_code == 302
    row = AdministratorSession.objects.get(address='192.0.2.7')
    url = f'/ucm/signin/administrator-sessions/{row.pk}/delete/'
    assert here.post(url, {'confirmed': '1'}).status_code == 403, 'operators end only their own'
    assert boss.post(url, {'confirmed': '1'}).status_code == 302
    assert there.get('/account/')['Location'].startswith('/login/')
    mine = AdministratorSession.objects.filter(administrator=olga)
    mine.update(last_seen_at=timezone.now() - timedelta(minutes=59))
    assert here.get('/account/').status_code == 200
    assert mine.get().last_seen_at > timezone.now() - timedelta(minutes=1)
    mine.update(last_seen_at=timezone.now() - timedelta(minutes=61))
    assert here.get('/account/')['Location'].startswith('/login/')
    assert sign_in(here).status_code == 302
    mine.update(began_at=timezone.now() - timedelta(hours=13))
    assert here.get('/account/')['Location'].startswith('/login/')
    ends = AuditEntry.objects.filter(action='sign-out').order_by('pk').values_list('after', flat=True)
    assert [after['reason'] for after in ends] == ['idle', 'session time over']


def test_a_new_password_ends_the_other_sessions(olga: Administrator) -> None:
    here, there = Client(), Client()
    assert sign_in(here).status_code == sign_in(there).status_code == 302
    form = {'do': 'password', 'password': PASSWORD, 'new': NEW, 'again': NEW}
    assert here.post('/account/', form).status_code == 302
    assert here.get('/account/').status_code == 200
    assert there.get('/account/')['Location'].startswith('/login/')
    assert AdministratorSession.objects.filter(administrator=olga).count() == 1


# ---- second factor


NOON = 1_800_000_000
"""The time at which codes are made and checked here: slow machines change nothing."""


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totp, 'time', SimpleNamespace(time=lambda: NOON))


def code_now(user: Administrator, ahead: int = 0) -> str:
    """The code that the user's app shows at noon, or that of a later step."""
    secret = vault.reveal(totp.PURPOSE, SecondFactor.objects.get(administrator=user).secret)
    return str(pyotp.TOTP(secret).at(NOON + 30 * ahead))


def test_second_factor_from_setting_up_to_losing_it(olga: Administrator, admin_client: Any, noon: None) -> None:
    client = Client()
    sign_in(client)
    page = client.get('/account/').content.decode()
    assert '<svg' in page
    assert 'style=' not in page[page.index('<svg') : page.index('</svg>')]
    row = SecondFactor.objects.get(administrator=olga)
    secret = vault.reveal(totp.PURPOSE, row.secret)
    assert secret not in row.secret
    set_up = {'do': 'confirm', 'code': code_now(olga, -1), 'password': PASSWORD}
    assert 'present password is wrong' in client.post('/account/', {**set_up, 'password': 'x'}).content.decode()
    assert 'The code is wrong' in client.post('/account/', {**set_up, 'code': '000000x'}).content.decode()
    shown = client.post('/account/', set_up)
    codes = shown.context['codes']
    assert len(set(codes)) == 10
    assert codes[0] not in str(list(RecoveryCode.objects.values()))
    assert codes[0] not in client.get('/account/').content.decode(), 'shown once'

    fresh = Client()
    answer = sign_in(fresh, next='/ucm/ucm/end-users/')
    assert answer['Location'] == '/login/code/'
    assert fresh.get('/account/')['Location'].startswith('/login/?'), 'the password alone opens nothing'
    assert 'The code is wrong' in fresh.post('/login/code/', {'code': code_now(olga, -1)}).content.decode(), 'replayed'
    assert fresh.post('/login/code/', {'code': code_now(olga)})['Location'] == '/ucm/ucm/end-users/'
    again = Client()
    sign_in(again)
    assert again.post('/login/code/', {'code': codes[3].upper()})['Location'] == '/'
    third = Client()
    sign_in(third)
    assert third.post('/login/code/', {'code': codes[3]}).status_code == 200, 'a recovery code works once'
    rules(failures=2)
    assert third.post('/login/code/', {'code': '1'}).status_code == 200
    assert third.post('/login/code/', {'code': '1'}).status_code == 429, 'guessing is throttled'

    boss = admin_client()
    reset = f'/ucm/ucm/application-users/{olga.pk}/do/reset-second-factor/'
    assert boss.post(reset, {'confirmed': '1'}).status_code == 302
    assert again.get('/account/')['Location'].startswith('/login/'), 'the sessions ended'
    LoginFailure.objects.all().delete()
    assert sign_in(Client())['Location'] == '/'
    recorded = str(list(AuditEntry.objects.values_list('before', 'after')))
    assert secret not in recorded
    assert codes[0] not in recorded


def test_ones_own_second_factor_goes_only_with_a_code(admin_client: Any) -> None:
    """A browser left alone, or a token, has no code."""
    browser = admin_client()
    boss = Administrator.objects.get(username='test-administrator')
    totp.prepare(boss)
    SecondFactor.objects.filter(administrator=boss).update(confirmed_at=timezone.now())
    url = f'/ucm/ucm/application-users/{boss.pk}/do/reset-second-factor/'
    assert 'in My account' in browser.post(url, {'confirmed': '1'}, follow=True).content.decode()
    assert totp.active(boss) is not None


def test_a_name_in_look_alike_letters_is_no_way_around_the_lockout(olga: Administrator) -> None:
    """To the database U+017F is an s and U+0131 an i; failures are counted by name."""
    Administrator.objects.filter(pk=olga.pk).update(username='silvia')
    assert sign_in(Client(), username='SILVIA').status_code == 302
    for name in ('\u017filvia', 's\u0131lvia'):
        assert sign_in(Client(), username=name).status_code == 200
    assert reasons() == ['unknown user', 'unknown user']


def test_second_factor_required_by_role(olga: Administrator, api: Callable[..., Any], noon: None) -> None:
    policy().second_factor_roles.set(Role.objects.filter(name__in=('operator', 'administrator')))
    client = Client()
    assert sign_in(client)['Location'] == '/login/steps/'
    assert client.get('/login/steps/').context['step'] == 'enrol'
    assert client.get('/ucm/')['Location'] == '/login/steps/'
    answer = client.post('/login/steps/', {'code': code_now(olga, -1)})
    assert len(answer.context['codes']) == 10
    assert client.get('/ucm/')['Location'] == '/login/steps/', 'until the codes were seen'
    assert client.post('/login/steps/', {'seen': '1'})['Location'] == '/'
    answer = client.post('/account/', {'do': 'remove', 'code': code_now(olga)})
    assert answer.status_code == 403
    assert totp.active(olga) is not None
    rest = api('administrator')
    assert rest.get('/api/v1/domains/').status_code == 200, 'tokens work as before'
    body = {'name': 'more', 'administrator': 'olga', 'scopes': ['*:view']}
    refused = rest.post('/api/v1/api-tokens/', body)
    assert refused.status_code == 409, 'but a token makes no further token without the second factor'
    assert ApiToken.objects.filter(name='more').count() == 0


# ---- one's own tokens


def test_ones_own_tokens_are_added_shown_once_and_revoked(olga: Administrator, noon: None) -> None:
    client = Client()
    sign_in(client)
    client.get('/account/')
    client.post('/account/', {'do': 'confirm', 'code': code_now(olga, -1), 'password': PASSWORD})
    form = {'do': 'token', 'name': 'script', 'scopes': ['right.configuration:view']}
    assert 'The code is wrong' in client.post('/account/', form).content.decode()
    beyond = {**form, 'scopes': ['application-users:change'], 'code': code_now(olga)}
    assert 'may not do this' in client.post('/account/', beyond).content.decode()
    assert not ApiToken.objects.exists()
    page = client.post('/account/', {**form, 'code': code_now(olga, 1)})
    clear = page.context['token']
    assert clear in page.content.decode()
    assert clear not in client.get('/account/').content.decode()
    bearer = {'Authorization': f'Bearer {clear}'}
    assert Client().get('/api/v1/domains/', headers=bearer).status_code == 200
    token = ApiToken.objects.get(administrator=olga)
    other = Client()
    other.force_login(make_administrator('administrator', 'other'))
    other.post('/account/', {'do': 'revoke', 'token': token.pk})
    assert ApiToken.objects.filter(pk=token.pk).exists(), "somebody else's are not his own"
    client.post('/account/', {'do': 'revoke', 'token': token.pk})
    assert Client().get('/api/v1/domains/', headers=bearer).status_code == 401
    recorded = AuditEntry.objects.filter(object_type='console.ApiToken').order_by('pk')
    assert [(entry.action, entry.actor) for entry in recorded] == [('create', 'olga'), ('delete', 'olga')]


# ---- history


def test_every_sign_in_is_in_the_history(olga: Administrator, admin_client: Any, api: Callable[..., Any]) -> None:
    client = Client(REMOTE_ADDR='192.0.2.5', HTTP_USER_AGENT='Browser/1')
    sign_in(client, 'wrong')
    sign_in(client)
    client.post('/logout/')
    Administrator.objects.filter(pk=olga.pk).update(is_active=False)
    sign_in(client)
    rest = api('operator')
    assert rest.get('/api/v1/domains/').status_code == rest.get('/api/v1/domains/').status_code == 200
    assert actions() == ['sign-in-failed', 'sign-in', 'sign-out', 'sign-in-failed', 'token-first-used']
    assert reasons() == ['wrong password', 'not active']
    page = admin_client().get('/ucm/signin/sign-ins/').content.decode()
    for text in ('192.0.2.5', 'olga', 'wrong password', 'not active'):
        assert text in page
    assert admin_client('operator').get('/ucm/signin/sign-ins/').status_code == 403


def test_ones_own_password_needs_the_present_one(api: Callable[..., Any], admin_client: Callable[..., Client]) -> None:
    """By page and by REST; guesses are counted although the transaction of the change is rolled back."""
    client, me = api('administrator'), Administrator.objects.get(username='test-administrator')
    url = f'/api/v1/application-users/{me.pk}/'
    policy()
    SignInPolicy.objects.update(failures=3)
    for present in ({}, {'present_password': 'x'}):
        answer = client.patch(url, {'password': NEW, **present})
        assert answer.status_code == 400
        assert answer.json()['errors'] == {'present_password': ['Your present password is wrong.']}
    assert reasons() == ['wrong password'] * 2
    assert client.patch(url, {'password': NEW, 'present_password': PASSWORD}).status_code == 200
    form = {'username': me.username, 'password': 'Third word 3', 'password_again': 'Third word 3', 'is_active': 'on',
            'roles': [role.pk for role in me.roles.all()]}  # fmt: skip
    browser = Client()
    assert sign_in(browser, NEW, me.username).status_code == 302
    page = f'/ucm/ucm/application-users/{me.pk}/'
    assert 'Only when you change your own password' in browser.get(page).content.decode()
    assert (
        'Only when you change your own password' not in browser.get('/ucm/ucm/application-users/add/').content.decode()
    )
    for _ in range(3):
        assert 'present password is wrong' in browser.post(page, form).content.decode()
    assert 'Too many failed attempts' in browser.post(page, {**form, 'present_password': NEW}).content.decode()
    me.refresh_from_db()
    assert me.check_password(NEW)
    assert client.patch(f'{url}?dry_run=true', {'password': 'Third word 3'}).status_code == 200, (
        'a preview is no oracle'
    )
