"""Single sign-on by SAML 2.0 against a real identity provider: the way in, and everything that must not be a way in."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from django.contrib.sessions.models import Session
from django.core import signing
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from saml2.response import IncorrectlySigned

from impadmin.console.models import Administrator, ApiToken, AuditEntry, Role
from impadmin.console.tokens import digest
from impadmin.signin import redirect, saml, samlkey, totp, vault
from impadmin.signin.models import AdministratorSession, ExternalGroup, SamlAnswer, SamlSignOn, SignInPolicy, policy
from tests.fixtures.data import PASSWORD, make_administrator
from tests.fixtures.provider import CBC, GCM, Provider
from tests.proves import proves

PAGE = '/api/v1/saml-single-sign-on/'


def switch_on(client: Any, provider: Provider, base: str) -> None:
    """Through REST as an administrator would: metadata there, metadata back, groups, on."""
    file = SimpleUploadedFile('idp.xml', provider.metadata.encode())
    answer = client.post(f'{PAGE}metadata/', {'file': file}, format='multipart')
    assert answer.status_code == 200, answer.content
    body = {'enabled': True, 'console_url': base, 'user_attribute': 'uid', 'group_attribute': 'groups'}
    answer = client.patch(PAGE, body)
    assert answer.status_code == 200, answer.content
    assert answer.json()['idp_entity'] == f'{provider.url}/metadata'
    shown = Client().get('/saml/metadata/')
    provider.trust(shown.content.decode())
    provider.acs = f'{base}/saml/acs/'  # type: ignore[attr-defined]
    ExternalGroup.objects.create(source='saml', name='console admins', role=Role.objects.get(name='operator'))


@pytest.fixture
def provider(identity_provider: Provider, api: Any) -> Provider:
    switch_on(api('administrator'), identity_provider, 'http://127.0.0.1')
    return identity_provider


def sent(client: Client, target: str = '/ucm/ucm/end-users/') -> str:
    """The address of the identity provider to which an unauthenticated request leads."""
    to_login = client.get(target)['Location']
    to_saml = client.get(to_login)['Location']
    assert to_saml.startswith('/saml/login/?')
    return str(client.get(to_saml)['Location'])


def post(client: Client, answer: str) -> Any:
    """What the page of the provider makes the browser send: from another site, so without cookies."""
    return Client().post('/saml/acs/', {'SAMLResponse': answer, 'RelayState': 'https://evil.example/'})


def last_reason() -> str:
    return str(AuditEntry.objects.filter(action='sign-in-failed').latest('pk').after['reason'])


@proves('PL-39')
def test_the_way_in(provider: Provider) -> None:
    client = Client()
    address = sent(client)
    assert address.startswith(f'{provider.sso}?SAMLRequest=')
    back = post(client, provider.answer(address))
    assert back.status_code == 303, back.content
    assert back['Location'].startswith('/saml/finish/?ticket=')
    stranger = Client()
    assert stranger.get(back['Location']).status_code == 403, 'the ticket is of use in one browser only'
    assert client.get(back['Location'])['Location'] == '/ucm/ucm/end-users/'
    assert client.get('/serviceability/').status_code in (200, 302)
    assert client.get('/ucm/ucm/end-users/').status_code == 200
    user = Administrator.objects.get(username='grace')
    assert (user.origin, [role.name for role in user.held_roles]) == ('saml', ['operator'])
    assert client.get(back['Location']).status_code == 403, 'and once'
    assert AuditEntry.objects.filter(action='sign-in').latest('pk').after['method'] == 'SAML'
    client.post('/logout/')
    assert client.get('/login/?signed-out=1').status_code == 200, 'who signs out is not signed in again at once'


@proves('PL-39')
def test_answers_that_are_refused(provider: Provider) -> None:
    client = Client()
    address = sent(client)
    good = provider.answer(address)
    assert post(client, good).status_code == 303
    assert post(client, good).status_code == 403, 'replayed'
    assert last_reason() == 'answered already'

    def refused(**changes: Any) -> str:
        answer = provider.answer(sent(client), **changes)
        assert post(client, answer).status_code == 403, changes
        return last_reason()

    assert refused(in_response_to='id-of-nobody') == 'not asked for'
    assert refused(destination='http://127.0.0.1/elsewhere/') != 'not asked for'
    assert 'Audience' in refused(sp_entity_id='http://other.example/metadata')
    assert 'signature' in refused(signed=False).lower()
    for pattern, new in (
        ('>grace<', '>admin<'),
        ('console admins', 'staff admins'),
        (r'<(\w+:)Signature .*?</\1Signature>', ''),
        (r'<(\w+:)AudienceRestriction>.*?</\1AudienceRestriction>', ''),
    ):
        text = base64.b64decode(provider.answer(sent(client))).decode()
        forged = re.sub(pattern, new, text, flags=re.DOTALL)
        assert forged != text, pattern
        assert post(client, base64.b64encode(forged.encode()).decode()).status_code == 403, pattern
        assert 'signature' in last_reason().lower(), last_reason()
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    for garbage in ('', '%%%', base64.b64encode(b'<a/>').decode(), base64.b64encode(bomb).decode(), 'x' * 600_000):
        assert post(client, garbage).status_code == 403
    assert not Administrator.objects.filter(username='admin').exists()
    assert client.get('/ucm/')['Location'].startswith('/login/')


def form_of(client: Client) -> dict[str, str]:
    """The fields of the page that posts the request to the provider."""
    page = client.get(client.get(client.get('/ucm/ucm/end-users/')['Location'])['Location'])
    assert page.status_code == 200, page.content
    assert page['Content-Security-Policy'].count('form-action') == 1
    return dict(re.findall('<input type="hidden" name="([^"]+)" value="([^"]*)">', page.content.decode()))


@proves('PL-39')
def test_a_provider_that_takes_posts_only(identity_provider: Provider, api: Any) -> None:
    """The request carries its signature inside, which the provider checks; the way back is the same."""
    identity_provider.take_only_posts()
    switch_on(api('administrator'), identity_provider, 'http://127.0.0.1')
    client = Client()
    fields = form_of(client)
    assert set(fields) == {'SAMLRequest'}
    back = post(client, identity_provider.answer(fields))
    assert client.get(back['Location'])['Location'] == '/ucm/ucm/end-users/'
    text = base64.b64decode(fields['SAMLRequest']).decode()
    assert 'rsa-sha256' in text
    forged = text.replace('http://127.0.0.1/saml/acs/', 'http://127.0.0.1/other/')
    assert forged != text
    with pytest.raises(IncorrectlySigned):
        identity_provider.answer({'SAMLRequest': base64.b64encode(forged.encode()).decode()})


def changed(answer: str, pattern: str, new: str) -> str:
    text = base64.b64decode(answer).decode()
    made = re.sub(pattern, new, text, flags=re.DOTALL)
    assert made != text, pattern
    return base64.b64encode(made.encode()).decode()


@proves('PL-39')
@pytest.mark.parametrize('cipher', [GCM, CBC])
def test_encrypted_assertions(provider: Provider, cipher: str) -> None:
    client = Client()
    answer = provider.encrypted(provider.answer(sent(client)), cipher)
    assert b'grace' not in base64.b64decode(answer)
    back = post(client, answer)
    assert back.status_code == 303, back.content
    assert client.get(back['Location'])['Location'] == '/ucm/ucm/end-users/'
    assert client.get('/ucm/ucm/end-users/').status_code == 200
    assert post(client, answer).status_code == 403
    assert last_reason() == 'answered already'


def test_encryption_vouches_for_nothing(provider: Provider, api: Any) -> None:
    """Everybody can encrypt with the key of the metadata; what comes out must be signed as if it had come in clear."""

    def refused(made: Callable[[str], str]) -> str:
        assert post(Client(), made(provider.answer(sent(Client())))).status_code == 403
        return last_reason()

    assert 'signature' in refused(lambda one: provider.encrypted(changed(one, '>grace<', '>admin<'), GCM)).lower()
    unsigned = r'<(\w+:)Signature .*?</\1Signature>'
    assert 'signature' in refused(lambda one: provider.encrypted(changed(one, unsigned, ''), GCM)).lower()
    twice = r'(<(\w+):EncryptedAssertion>.*</\2:EncryptedAssertion>)'
    double = refused(lambda one: changed(provider.encrypted(one, GCM), twice, r'\1\1'))
    assert double == 'more than one encrypted assertion'
    inner = refused(lambda one: provider.encrypted(changed(one, '>grace<', '><EncryptedAssertion/><'), GCM))
    assert inner == 'an encrypted assertion within another'
    wrong = 'the encrypted assertion is not for the key of this console'
    end = r'....(</[\w:]*CipherValue>)(?!.*CipherValue)'
    assert refused(lambda one: changed(provider.encrypted(one, GCM), end, r'AAA=\1')) == wrong
    assert refused(lambda one: changed(provider.encrypted(one, CBC), end, r'AAA=\1'))
    old = 'http://www.w3.org/2001/04/xmlenc#'
    assert 'is not taken' in refused(lambda one: provider.encrypted(one, f'{old}tripledes-cbc'))
    assert refused(lambda one: provider.encrypted(one, GCM, f'{old}rsa-1_5')) == wrong
    samlkey.renew('encryption')
    assert refused(lambda one: provider.encrypted(one, GCM)) == wrong


def test_who_fails_often_learns_nothing_from_a_cipher_that_can_be_changed(provider: Provider) -> None:
    """CBC has no authentication, so what comes of changed blocks would tell; GCM goes on."""
    policy()
    SignInPolicy.objects.update(address_failures=5)
    client = Client()
    good = {cipher: provider.encrypted(provider.answer(sent(client)), cipher) for cipher in (CBC, GCM)}
    for _ in range(5):
        assert post(client, 'garbage').status_code == 403
    assert [post(client, good[cipher]).status_code for cipher in (CBC, GCM)] == [403, 303]


def test_who_may_not(provider: Provider) -> None:
    def tries(**changes: Any) -> str:
        client = Client()
        back = post(client, provider.answer(sent(client), **changes))
        answer = client.get(back['Location'])
        assert answer.status_code == 403
        assert 'did not sign you in' in answer.content.decode()
        return last_reason()

    make_administrator('operator', 'grace')
    assert tries() == 'the name belongs to a user kept by Local'
    assert tries(user='heidi', groups=['staff']) == 'no group with a role'
    assert tries(user='two words') == 'not a possible user ID'


def test_recovery_and_limits(provider: Provider, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_administrator('operator', 'local')
    client = Client()
    page = client.get('/login/?recovery=1')
    assert page.status_code == 200
    assert 'Sign in with single sign-on' in page.content.decode()
    assert client.post('/login/', {'username': 'local', 'password': PASSWORD}).status_code == 302
    monkeypatch.setattr('shutil.which', lambda program: None)
    assert Client().get('/login/').status_code == 200, 'without xmlsec1 the console works as if SAML were off'
    assert Client().get('/saml/login/').status_code == 404
    admin = api('administrator')
    assert 'xmlsec1' in str(admin.patch(PAGE, {'enabled': True, 'user_attribute': 'mail'}).json()['errors']['enabled'])


def test_strangers_fill_nothing_by_beginning(provider: Provider) -> None:
    """So there is no limit of open requests with which they could lock others out."""
    for _ in range(20):
        assert sent(Client()).startswith(provider.sso)
    assert not SamlAnswer.objects.exists()
    assert not Session.objects.exists()
    client = Client()
    back = post(client, provider.answer(sent(client)))['Location']
    SamlAnswer.objects.update(at=timezone.now() - saml.TICKET_LIFE)
    assert client.get(back).status_code == 403, 'too late'
    made_up = '_' + signing.TimestampSigner(key='of somebody else', sep='.', salt='imp.saml.request').sign('x')
    assert post(client, provider.answer(sent(client), in_response_to=made_up)).status_code == 403
    assert last_reason() == 'not asked for'


def test_strangers_do_not_fill_the_history(provider: Provider) -> None:
    policy()
    SignInPolicy.objects.update(address_failures=5)
    for _ in range(4):
        assert Client().get('/saml/finish/?ticket=x').status_code == 403
        assert post(Client(), 'garbage').status_code == 403
    assert AuditEntry.objects.filter(action='sign-in-failed').count() == 5
    assert Client(REMOTE_ADDR='192.0.2.7').get('/saml/finish/?ticket=x').status_code == 403
    assert AuditEntry.objects.filter(action='sign-in-failed').count() == 6


def test_single_sign_on_gives_no_more_guesses_of_the_second_factor(provider: Provider) -> None:
    grace = make_administrator('operator', 'grace')
    Administrator.objects.filter(pk=grace.pk).update(origin='saml')
    totp.prepare(grace)
    grace.second_factor.confirmed_at = timezone.now()
    grace.second_factor.save()
    policy()
    SignInPolicy.objects.update(failures=3)
    answers = []
    for _ in range(4):
        client = Client()
        assert client.get(post(client, provider.answer(sent(client)))['Location'])['Location'] == '/login/code/'
        answers.append(client.post('/login/code/', {'code': 'x'}).status_code)
    assert answers == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'no xml', 'no XML'),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', 'no XML'),
        (b'<a/>', 'exactly one identity provider'),
        (b'\xff', 'UTF-8'),
    ],
)
def test_metadata_that_cannot_be_used(content: bytes, says: str, api: Any) -> None:
    file = SimpleUploadedFile('idp.xml', content)
    answer = api('administrator').post(f'{PAGE}metadata/', {'file': file}, format='multipart')
    assert answer.status_code == 400
    assert says in str(answer.json()['errors']['file'])


SLO = 'http://127.0.0.1/saml/slo/'


def signed_in(provider: Provider) -> tuple[Client, AdministratorSession]:
    """A browser that came in by the provider, and its session."""
    client = Client()
    client.get(post(client, provider.answer(sent(client)))['Location'])
    assert client.get('/ucm/ucm/end-users/').status_code == 200
    return client, AdministratorSession.objects.latest('pk')


def path(address: str) -> str:
    parts = urlsplit(address)
    return f'{parts.path}?{parts.query}'


@proves('PL-39')
def test_requests_are_signed_with_the_key_of_the_metadata(provider: Provider, api: Any) -> None:
    row = SamlSignOn.objects.get()
    metadata = saml.own_metadata(row)
    plain = ''.join(row.signing_certificate.split('\n')[1:-2])
    assert plain in re.sub(r'\s', '', metadata)
    assert 'AuthnRequestsSigned="true"' in metadata
    for use in samlkey.USES:
        assert 'PRIVATE' in vault.reveal(samlkey.PURPOSES[use], getattr(row, f'{use}_key'))
        assert 'PRIVATE' not in getattr(row, f'{use}_key')
    assert row.signing_certificate != row.encryption_certificate
    client = api('administrator')
    assert not [name for name in client.get(PAGE).json() if name.startswith(samlkey.USES)]
    address = sent(Client())
    assert 'Signature=' in address, 'and the provider checks it in every test here'
    assert client.post(f'{PAGE}renew-key/', {}).status_code == 200
    assert plain not in saml.own_metadata(SamlSignOn.objects.get())
    with pytest.raises(IncorrectlySigned):
        provider.answer(sent(Client()))


def test_logout_begun_here(provider: Provider) -> None:
    client, _ = signed_in(provider)
    left = client.post('/logout/')
    address = left['Refresh'].removeprefix('0; url=')
    assert address.startswith(provider.slo)
    assert address.replace('&', '&amp;') in left.content.decode(), 'also as a link'
    assert client.get('/ucm/ucm/end-users/')['Location'].startswith('/login/'), 'ended here, whatever the provider says'
    back = provider.logout_answer(address, SLO)
    assert client.get(path(back))['Location'] == '/login/?signed-out=1'
    assert client.get(path(back).replace('SAMLResponse=', 'SAMLResponse=AAAA')).status_code == 403
    assert last_reason() == 'wrong signature'


def test_logout_by_the_provider(provider: Provider) -> None:
    """It comes without cookies, ends the one session it names, and is answered with a signature."""
    near, row = signed_in(provider)
    other, _ = signed_in(provider)
    answer = Client().get(path(provider.logout_request(row.idp, SLO)))
    assert near.get('/ucm/ucm/end-users/')['Location'].startswith('/login/')
    assert other.get('/ucm/ucm/end-users/').status_code == 200, 'another session index'
    certificate = x509.load_pem_x509_certificate(SamlSignOn.objects.get().signing_certificate.encode())
    told = redirect.verified(urlsplit(answer['Location']).query, [certificate])
    assert answer['Location'].startswith(provider.slo)
    assert (told.kind, told.relay_state) == ('SAMLResponse', 'relay')
    assert b'status:Success' in told.xml
    ended = AuditEntry.objects.filter(action='sign-out').latest('pk')
    assert (ended.actor, ended.after['reason']) == ('grace', 'signed out at the identity provider')


def test_logout_messages_that_are_refused(provider: Provider) -> None:
    client, row = signed_in(provider)
    good = path(provider.logout_request(row.idp, SLO))
    old = (timezone.now() - timedelta(hours=1)).strftime('%Y-%m-%dT%H:%M:%SZ')
    for address, reason in (
        (good.replace('SAMLRequest=', 'SAMLRequest=AAAA'), 'wrong signature'),
        (good.replace('RelayState=relay', 'RelayState=other'), 'wrong signature'),
        (good.partition('&SigAlg')[0], 'not signed'),
        (good.replace('rsa-sha256', 'rsa-sha1'), 'not signed'),
        (f'/saml/slo/?SAMLRequest=AAAA&{good.partition("?")[2]}', 'wrong signature'),
        ('/saml/slo/', 'not signed'),
        (path(provider.logout_request(row.idp, SLO, destination='http://127.0.0.1/elsewhere/')), 'wrong destination'),
        (path(provider.logout_request(row.idp, SLO, issue_instant=old)), 'too late'),
        (path(provider.logout_request(row.idp, SLO, not_on_or_after=old)), 'too late'),
        (path(provider.logout_request(row.idp, SLO, issuer=None)), 'wrong issuer'),
    ):
        assert Client().get(address).status_code == 403, address
        assert last_reason() == reason, address
    assert client.get('/ucm/ucm/end-users/').status_code == 200


def test_tokens_last_as_long_as_the_last_sign_in_says(provider: Provider) -> None:
    signed_in(provider)
    grace = Administrator.objects.get(username='grace')
    ApiToken.objects.create(name='t', administrator=grace, digest=digest('imp_grace'), scopes=['*:*'])

    def used(ago: timedelta) -> int:
        Administrator.objects.filter(pk=grace.pk).update(vouched_at=timezone.now() - ago)
        return int(Client().get('/api/v1/end-users/', headers={'Authorization': 'Bearer imp_grace'}).status_code)

    assert [used(timedelta(days=6)), used(timedelta(days=8))] == [200, 401]
    assert AuditEntry.objects.get(action='vouching-ended').after['reason'] == 'last sign-in too long ago'
    signed_in(provider)
    SamlSignOn.objects.update(token_days=1)
    assert [used(timedelta(hours=23)), used(timedelta(hours=25))] == [200, 401]


@proves('PL-39')
@pytest.mark.parametrize('posted', [False, True], ids=['redirect', 'form'])
def test_single_sign_on_in_a_browser(
    identity_provider: Provider, api: Any, console: Any, browser_page: Any, posted: bool
) -> None:
    """A real browser goes to the provider and comes back signed in, past the cookie rules for other sites; by a form,
    which posts itself, its answer is encrypted."""
    if posted:
        identity_provider.take_only_posts()
    switch_on(api('administrator'), identity_provider, console.url)
    page = browser_page('')
    page.allowed_errors = ['request to another host', 'favicon', '404']
    page.get_by_role('button', name='Be grace').click()
    page.wait_for_url(f'{console.url}/**')
    page.get_by_role('button', name='grace').first.wait_for()
    page.goto('/serviceability/')
    page.get_by_role('heading', level=1).wait_for()
    assert 'login' not in page.url
