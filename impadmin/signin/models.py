"""Tables of signing in: the policy, sessions, remembered passwords, second factors, the logon message."""

from __future__ import annotations

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from impadmin.console.models import Administrator, AuditEntry, Role


def _between(low: int, high: int) -> list[Any]:
    return [MinValueValidator(low), MaxValueValidator(high)]


class SignInPolicy(models.Model):
    """Rules for everybody who signs in to the console."""

    min_length = models.PositiveIntegerField(
        _('Minimum password length'), default=10, validators=_between(8, 127),
        help_text=_('Characters, 8 to 127. Holds from the next change of a password.'),
    )  # fmt: skip
    min_classes = models.PositiveIntegerField(
        _('Kinds of characters'), default=1, validators=_between(1, 4),
        help_text=_('How many kinds a password must have: capital letters, small letters, digits, other signs.'),
    )  # fmt: skip
    history = models.PositiveIntegerField(
        _('Remembered passwords'), default=5, validators=_between(0, 24),
        help_text=_('So many previous passwords cannot be used again, 0 to 24.'),
    )  # fmt: skip
    max_age_days = models.PositiveIntegerField(
        _('Password expires after'), null=True, blank=True, default=None, validators=_between(1, 3650),
        help_text=_('Days. Then a local user must choose a new one when he signs in.'),
    )  # fmt: skip
    failures = models.PositiveIntegerField(
        _('Failed attempts per user and address'), default=5, validators=_between(1, 100),
        help_text=_('After so many from one address, this user cannot sign in from there for a while.'),
    )  # fmt: skip
    account_failures = models.PositiveIntegerField(
        _('Failed attempts per user'), default=50, validators=_between(5, 10_000),
        help_text=_('After so many from anywhere, this user cannot sign in for a while.'),
    )  # fmt: skip
    address_failures = models.PositiveIntegerField(
        _('Failed attempts per address'), default=100, validators=_between(5, 10_000),
        help_text=_('After so many for any user, nobody can sign in from this address for a while.'),
    )  # fmt: skip
    lockout_minutes = models.PositiveIntegerField(
        _('Lockout time'), default=5, validators=_between(1, 1440),
        help_text=_('Minutes. Failed attempts older than this do not count. Application User has a command to unlock.'),
    )  # fmt: skip
    idle_minutes = models.PositiveIntegerField(
        _('Idle session ends after'), default=60, validators=_between(1, 1440),
        help_text=_('Minutes without a request from the browser.'),
    )  # fmt: skip
    session_hours = models.PositiveIntegerField(
        _('Session ends after'), default=12, validators=_between(1, 168),
        help_text=_('Hours after signing in, used or not.'),
    )  # fmt: skip
    second_factor_roles: models.ManyToManyField[Role, Any] = models.ManyToManyField(
        Role, verbose_name=_('Second factor required for'), blank=True, db_table='second_factor_role', related_name='+',
        help_text=_('People with one of these roles must set up a second factor before they get in.'),
    )  # fmt: skip

    class Meta:
        db_table = 'sign_in_policy'
        verbose_name = _('Credential Policy')


def policy() -> SignInPolicy:
    """The rules in force."""
    return SignInPolicy.objects.get_or_create(pk=1)[0]


class PasswordRecord(models.Model):
    """A password that a local user had, as its hash; the newest is the present one."""

    administrator = models.ForeignKey(Administrator, models.CASCADE, related_name='passwords')
    hash = models.CharField(max_length=128)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = 'password_record'
        verbose_name_plural = _('Previous passwords')


class Method(models.TextChoices):
    """How somebody signs in."""

    PASSWORD = 'password', _('Password')
    LDAP = 'LDAP', 'LDAP'
    SAML = 'SAML', 'SAML'


class AdministratorSession(models.Model):
    """One signed-in browser."""

    administrator = models.ForeignKey(
        Administrator, models.CASCADE, related_name='sessions', verbose_name=_('User ID'), editable=False,
        help_text=_('Who signed in.'),
    )  # fmt: skip
    session_key = models.CharField(max_length=40, unique=True, editable=False)
    address = models.CharField(_('Address'), max_length=64, blank=True, editable=False, help_text=_('Of the browser.'))
    browser = models.CharField(
        _('Browser'), max_length=200, blank=True, editable=False, help_text=_('As it names itself.')
    )
    method = models.CharField(
        _('Signed in by'), max_length=20, blank=True, editable=False, choices=Method.choices,
        help_text=_('What vouched for the user.'),
    )  # fmt: skip
    idp: models.JSONField[Any] = models.JSONField(default=dict, editable=False)
    """SAML: ``{"name_id": {"text": .., "format": ..}, "index": ..}``, by which the provider calls the session."""
    began_at = models.DateTimeField(_('Began'), auto_now_add=True, help_text=_('When the user signed in.'))
    last_seen_at = models.DateTimeField(
        _('Last seen'), auto_now_add=True, help_text=_('The last request, to the minute.')
    )

    class Meta:
        db_table = 'administrator_session'
        verbose_name = _('Session')
        verbose_name_plural = _('Sessions')

    def __str__(self) -> str:
        return f'{self.administrator} · {self.address}'


class LogonMessage(models.Model):
    """The text that everybody must acknowledge before and after signing in; empty: none."""

    text = models.TextField(_('Message'), blank=True, editable=False, help_text=_('Shown as plain text.'))
    file_name = models.CharField(
        _('File'), max_length=255, blank=True, editable=False, help_text=_('The uploaded file.')
    )
    uploaded_at = models.DateTimeField(
        _('Uploaded'), null=True, blank=True, editable=False, help_text=_('When it was uploaded.')
    )

    class Meta:
        db_table = 'logon_message'
        verbose_name = _('Customized Logon Message')


class SecondFactor(models.Model):
    """A time-based one-time password generator (RFC 6238) of one user."""

    administrator = models.OneToOneField(Administrator, models.CASCADE, related_name='second_factor')
    secret = models.TextField()
    """Encrypted, see vault.py."""
    confirmed_at = models.DateTimeField(null=True)
    last_step = models.BigIntegerField(default=0)
    """Time step of the newest accepted code: it and older ones are refused."""

    class Meta:
        db_table = 'second_factor'
        verbose_name_plural = _('Second factors')


class RecoveryCode(models.Model):
    """A code for once, when the generator is lost. Only its SHA-256 is kept."""

    administrator = models.ForeignKey(Administrator, models.CASCADE, related_name='recovery_codes')
    digest = models.CharField(max_length=64)

    class Meta:
        db_table = 'recovery_code'
        verbose_name_plural = _('Recovery codes')


class SignIn(AuditEntry):
    """What the history knows about signing in."""

    class Meta:
        proxy = True
        verbose_name = _('Sign-in')
        verbose_name_plural = _('Sign-ins')


class ExternalSource(models.TextChoices):
    """Who says which groups somebody is in."""

    LDAP = 'ldap', 'LDAP'
    SAML = 'saml', 'SAML'


class ExternalGroup(models.Model):
    """A group of the directory or the identity provider whose members get a role."""

    source = models.CharField(
        _('Source'), max_length=10, choices=ExternalSource.choices, default=ExternalSource.LDAP,
        help_text=_('LDAP: the directory. SAML: the identity provider.'),
    )  # fmt: skip
    name = models.CharField(
        _('Group'), max_length=500,
        help_text=_('LDAP: the distinguished name of the group. SAML: a value of the group attribute.'),
    )  # fmt: skip
    role = models.ForeignKey(
        Role, models.PROTECT, related_name='external_groups', verbose_name=_('Role'),
        help_text=_('Who is in the group signs in with this role; who is in several has all their roles.'),
    )  # fmt: skip

    class Meta:
        db_table = 'external_group'
        verbose_name = _('External Group')
        verbose_name_plural = _('External Groups')
        constraints = [models.UniqueConstraint(fields=['source', 'name', 'role'], name='one_role_per_external_group')]

    def __str__(self) -> str:
        return self.name


class LdapAuthentication(models.Model):
    """Signing in with user name and password of a directory."""

    class Security(models.TextChoices):
        """How the connection is protected; there is no unprotected one."""

        LDAPS = 'ldaps', _('LDAPS (port 636)')
        STARTTLS = 'starttls', _('StartTLS (port 389)')

    enabled = models.BooleanField(
        _('Sign in by LDAP'),
        default=False,
        help_text=_('Administrators of the directory may sign in to these consoles.'),
    )
    servers = models.TextField(
        _('Servers'), blank=True, max_length=1000,
        help_text=_('One per line, host or host:port, tried in this order. Their certificates must name them.'),
    )  # fmt: skip
    security = models.CharField(
        _('Connection'), max_length=10, choices=Security.choices, default=Security.LDAPS,
        help_text=_('Passwords travel encrypted in both cases.'),
    )  # fmt: skip
    ca_certificate = models.TextField(
        _('CA certificates'), blank=True, max_length=100_000,
        help_text=_("PEM text of the authorities that sign the servers' certificates. Empty: those of the system."),
    )  # fmt: skip
    bind_dn = models.CharField(
        _('LDAP Manager Distinguished Name'), max_length=500, blank=True,
        help_text=_('Who searches for users. Its password is set with the command above.'),
    )  # fmt: skip
    bind_password = models.TextField(blank=True, editable=False)
    """Encrypted, see vault.py."""
    search_base = models.CharField(
        _('LDAP User Search Base'), max_length=500, blank=True, help_text=_('For example ou=people,dc=example,dc=com.')
    )
    user_filter = models.CharField(
        _('Filter'), max_length=500, default='(&(objectClass=person)(uid={user}))',
        help_text=_('Finds one entry; {user} stands for the user name. Active Directory: sAMAccountName={user}.'),
    )  # fmt: skip
    group_base = models.CharField(
        _('Group search base'), max_length=500, blank=True,
        help_text=_('Where groups are searched. Empty: only the attribute memberOf of the user counts.'),
    )  # fmt: skip
    group_filter = models.CharField(
        _('Group filter'), max_length=500, default='(member={dn})',
        help_text=_('{dn} stands for the distinguished name of the user or, nested, of a group.'),
    )  # fmt: skip
    nested = models.BooleanField(
        _('Nested groups'), default=False, help_text=_('Groups that are members of groups count, up to five levels.')
    )
    timeout_s = models.PositiveIntegerField(
        _('Timeout'), default=5, validators=_between(1, 30),
        help_text=_('How long one server may take to connect or to answer, 1 to 30 seconds.'),
    )  # fmt: skip
    recheck_minutes = models.PositiveIntegerField(
        _('Ask again after'), default=15, validators=_between(1, 1440),
        help_text=_('Minutes, 1 to 1,440. So long tokens and sessions may be used before the directory is asked again '
                    'whether the user is still there and in which groups.'),
    )  # fmt: skip
    local_users = models.BooleanField(
        _('Local users may sign in'), default=True,
        help_text=_('Off: they may only while no LDAP server can be reached.'),
    )  # fmt: skip

    class Meta:
        db_table = 'ldap_authentication'
        verbose_name = _('LDAP Authentication')


class SamlSignOn(models.Model):
    """Single sign-on by SAML 2.0: this console is a service provider."""

    enabled = models.BooleanField(
        _('SAML Single Sign-On'), default=False,
        help_text=_('Who is not signed in goes to the identity provider. /login/?recovery=1 stays for local users.'),
    )  # fmt: skip
    console_url = models.CharField(
        _('Address of this console'), max_length=200, blank=True,
        help_text=_('As browsers reach it, for example https://imp.example.com. Part of what the provider must know.'),
    )  # fmt: skip
    user_attribute = models.CharField(
        _('User attribute'), max_length=200, blank=True,
        help_text=_('Attribute of the assertion that is the user ID, for example uid. Empty: the NameID.'),
    )  # fmt: skip
    group_attribute = models.CharField(
        _('Group attribute'), max_length=200, default='groups',
        help_text=_('Attribute whose values are the groups of External Groups.'),
    )  # fmt: skip
    token_days = models.PositiveIntegerField(
        _('Tokens last after a sign-in'), default=7, validators=_between(1, 365),
        help_text=_('Days, 1 to 365. Tokens of users of the identity provider are refused when the last sign-in is '
                    'longer ago.'),
    )  # fmt: skip
    idp_entity = models.CharField(
        _('Identity provider'), max_length=500, blank=True, editable=False, help_text=_('From the uploaded metadata.')
    )
    idp_metadata = models.TextField(blank=True, editable=False)
    signing_key = models.TextField(blank=True, editable=False)
    """Encrypted, see vault.py and samlkey.py."""
    signing_certificate = models.TextField(blank=True, editable=False)
    encryption_key = models.TextField(blank=True, editable=False)
    """Opens encrypted assertions. Encrypted, as the other."""
    encryption_certificate = models.TextField(blank=True, editable=False)

    class Meta:
        db_table = 'saml_sign_on'
        verbose_name = _('SAML Single Sign-On')


class SamlAnswer(models.Model):
    """A right answer of the identity provider for the browser that asked. Each request is answered once."""

    request_id = models.CharField(max_length=100, unique=True)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    ticket = models.CharField(max_length=64)
    """SHA-256 of what the browser brings back; '' when it did."""
    username = models.CharField(max_length=150)
    groups: models.JSONField[Any] = models.JSONField(default=list)
    idp: models.JSONField[Any] = models.JSONField(default=dict)

    class Meta:
        db_table = 'saml_answer'
