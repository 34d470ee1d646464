"""Credential Policy, Sessions, Sign-In History, Customized Logon Message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console import historyview
from impadmin.console.access import Right
from impadmin.console.actions import Actor
from impadmin.console.page import Column, Command, Fieldset, Help, Page, Result, SettingsPage
from impadmin.console.registry import register
from impadmin.signin import external, sessions
from impadmin.signin.models import AdministratorSession, LogonMessage, Method, SignIn, SignInPolicy

LONGEST = 10_000
"""Characters of a logon message."""

POLICY = SettingsPage(
    name='credential-policy',
    console='ucm',
    area='signin',
    menu='User Management > User Settings > Credential Policy',
    title=gettext_lazy('Credential Policy'),
    order=141,
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy(
        'Rules for the people who sign in to these consoles: passwords, lockout, sessions, second factor.'
    ),
    help=Help(
        when=gettext_lazy('To follow the security rules of your organisation.'),
        effect=gettext_lazy('From the next sign-in, password change or request on. End users are not touched.'),
    ),
    related=('application-users', 'administrator-sessions', 'sign-ins'),
    model=SignInPolicy,
    fieldsets=(
        Fieldset(gettext_lazy('Passwords'), ('min_length', 'min_classes', 'history', 'max_age_days')),
        Fieldset(gettext_lazy('Lockout'), ('failures', 'account_failures', 'address_failures', 'lockout_minutes')),
        Fieldset(gettext_lazy('Sessions'), ('idle_minutes', 'session_hours')),
        Fieldset(gettext_lazy('Second factor'), ('second_factor_roles',)),
    ),
    bad={'min_length': (7, 128), 'failures': (0,), 'session_hours': (0, 169), 'lockout_minutes': (0,)},
    configures=False,
)
SESSIONS = Page(
    name='administrator-sessions',
    console='ucm',
    area='signin',
    menu='User Management > Sessions',
    title=gettext_lazy('Sessions'),
    order=143,
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('Browsers that are signed in. Delete a session to end it.'),
    help=Help(
        when=gettext_lazy('When a browser was left signed in, or somebody must leave at once.'),
        effect=gettext_lazy('The browser is sent to the sign-in page with its next click. What it has saved stays.'),
    ),
    related=('credential-policy', 'sign-ins'),
    model=AdministratorSession,
    queryset=lambda: AdministratorSession.objects.select_related('administrator'),
    columns=('administrator', 'address', 'browser', 'method', 'began_at', 'last_seen_at'),
    find=('address', 'browser'),
    fieldsets=(Fieldset(gettext_lazy('Session'), ('administrator', 'address', 'browser', 'method')),),
    read_only=('began_at', 'last_seen_at'),
    verbs=('delete',),
    delete=sessions.revoke,
    ordering=('-last_seen_at', 'pk'),
)


def _what(entry: Any) -> str:
    return historyview.action_text(entry)


WORDS = dict(Method.choices) | {
    'local users are off': gettext_lazy('local users are off'),
    'unknown user': gettext_lazy('unknown user'),
    'wrong password': gettext_lazy('wrong password'),
    'wrong code': gettext_lazy('wrong code'),
    'not active': gettext_lazy('not active'),
    'no group with a role': gettext_lazy('no group with a role'),
    'not a possible user ID': gettext_lazy('not a possible user ID'),
    'revoked': gettext_lazy('session ended by an administrator'),
    'session time over': gettext_lazy('session time over'),
    'idle': gettext_lazy('idle'),
    'signed out at the identity provider': gettext_lazy('signed out at the identity provider'),
    'disabled': gettext_lazy('disabled'),
    'no longer vouched for': gettext_lazy('no longer vouched for'),
    'last sign-in too long ago': gettext_lazy('last sign-in too long ago'),
}
"""Words of the history about signing in; others, such as what a directory answered, are shown as they are."""


def _detail(name: str) -> Any:
    def text(entry: Any) -> str:
        word = str(entry.after.get(name, '')) if isinstance(entry.after, dict) else ''
        return str(WORDS.get(word, word))

    return text


SIGN_INS = Page(
    name='sign-ins',
    console='ucm',
    area='signin',
    menu=sessions.MENU,
    title=gettext_lazy('Sign-In History'),
    order=144,
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('Who signed in, who failed to and why, who was locked out, and which tokens were used first.'),
    help=Help(
        when=gettext_lazy('When somebody cannot sign in, and to see whether anybody tries who should not.'),
        effect=gettext_lazy(
            'Nothing: the page only shows. Addresses and accounts are locked by the rules of the credential policy.'
        ),
    ),
    related=('administrator-sessions', 'credential-policy', 'history'),
    model=SignIn,
    queryset=lambda: SignIn.objects.filter(object_type='signin.SignIn'),
    columns=(
        'at',
        Column('object_label', gettext_lazy('User'), order_by='object_label'),
        Column('what', gettext_lazy('Action'), value=_what, order_by='action'),
        Column('reason', gettext_lazy('Reason'), value=_detail('reason')),
        Column('method', gettext_lazy('Signed in by'), value=_detail('method')),
        'source',
        Column('browser', gettext_lazy('Browser'), value=_detail('browser'), default=False),
    ),
    find=('object_label', 'action', 'source', 'at'),
    fieldsets=(Fieldset(gettext_lazy('Sign-in'), ('at', 'actor', 'source', 'channel', 'action', 'object_label')),),
    read_only=('at', 'actor', 'source', 'channel', 'action', 'object_label'),
    verbs=(),
    ordering=('-at', '-pk'),
)


class MessageForm(forms.Form):
    """The text file with the message."""

    file = forms.FileField(
        label=gettext_lazy('File'),
        help_text=gettext_lazy('A .txt file in UTF-8, at most 10,000 characters. Line breaks are kept.'),
    )


def upload(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Keep the text of the file as the logon message."""
    file = data['file']
    if not str(file.name).lower().endswith('.txt'):
        raise ValidationError({'file': _('Choose a text file whose name ends in .txt.')})
    raw = file.read() if file.size <= 4 * LONGEST else b'x' * (LONGEST + 1)  # more bytes are more characters, too
    try:
        text = raw.decode('utf-8-sig').replace('\r\n', '\n').strip()
    except UnicodeDecodeError:
        raise ValidationError({'file': _('The file is not text in UTF-8.')}) from None
    if any(not char.isprintable() and char not in '\n\t' for char in text):
        raise ValidationError({'file': _('The file has characters that are no text.')})
    if not text or len(text) > LONGEST:
        raise ValidationError({'file': _('The file must have 1 to %(most)d characters.') % {'most': LONGEST}})
    LogonMessage.objects.update_or_create(
        pk=1, defaults={'text': text, 'file_name': str(file.name)[:255], 'uploaded_at': timezone.now()}
    )
    return Result(_('The logon message is shown from now on.'))


def discard(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """No logon message any more."""
    LogonMessage.objects.filter(pk=1).update(text='', file_name='', uploaded_at=None)
    return Result(_('There is no logon message any more.'))


MESSAGE = SettingsPage(
    name='customized-logon-message',
    console='os',
    area='signin',
    menu='Software Upgrades > Customized Logon Message',
    title=gettext_lazy('Customized Logon Message'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('A text that everybody must acknowledge before and after signing in to any of these consoles.'),
    help=Help(
        when=gettext_lazy('To tell the rules of use, as laws and contracts may demand.'),
        effect=gettext_lazy('At the next sign-in, on every console. REST tokens are not asked.'),
        guide='4921',
    ),
    related=('credential-policy',),
    model=LogonMessage,
    fieldsets=(Fieldset(gettext_lazy('Message'), ('file_name', 'uploaded_at', 'text')),),
    commands=(
        Command('upload', gettext_lazy('Upload File'), upload, scope='page', form=MessageForm),
        Command(
            'delete',
            gettext_lazy('Delete'),
            discard,
            scope='page',
            confirm=lambda objects: _('Nobody will be asked to acknowledge a message any more.'),
            when=lambda row: '' if row.text else _('There is no message.'),
            danger=True,
        ),
    ),
    configures=False,
)
register(POLICY, SESSIONS, SIGN_INS, MESSAGE, *external.PAGES)
