"""Pages of directories and identity providers: LDAP Authentication, External Groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from ldap3.core.exceptions import LDAPException
from ldap3.operation.search import parse_filter

from impadmin.console import roles
from impadmin.console.access import Right
from impadmin.console.actions import Actor, Refused
from impadmin.console.page import Command, Fieldset, Help, Page, Result, SettingsPage
from impadmin.signin import directory, saml, samlkey, vault
from impadmin.signin.models import ExternalGroup, LdapAuthentication, SamlSignOn


def servers_are_valid(row: LdapAuthentication, before: Any) -> None:
    """Each line names a host."""
    try:
        found = directory.servers(row.servers)
    except ValueError as error:
        raise ValidationError(
            {'servers': _('“%(line)s” is no server. Enter host or host:port.') % {'line': str(error)[:100]}}
        ) from None
    if len(found) > 5:
        raise ValidationError({'servers': _('Enter at most 5 servers.')})


def filters_are_valid(row: LdapAuthentication, before: Any) -> None:
    """Filters of RFC 4515 with their placeholder once."""
    for name, placeholder in (('user_filter', '{user}'), ('group_filter', '{dn}')):
        text = getattr(row, name)
        if text.count(placeholder) != 1:
            raise ValidationError({name: _('The filter must contain %(sign)s once.') % {'sign': placeholder}})
        try:
            parse_filter(text.replace(placeholder, 'x'), None, False, False, None, False)
        except (LDAPException, ValueError, IndexError):
            raise ValidationError({name: _('This is no LDAP filter. Check the brackets.')}) from None


def certificates_are_valid(row: LdapAuthentication, before: Any) -> None:
    """PEM that can be read."""
    if row.ca_certificate.strip():
        try:
            x509.load_pem_x509_certificates(row.ca_certificate.encode())
        except ValueError:
            raise ValidationError({'ca_certificate': _('Paste certificates in PEM form.')}) from None


class PasswordForm(forms.Form):
    """The manager's password."""

    password = forms.CharField(
        label=gettext_lazy('LDAP Manager password'),
        max_length=200,
        strip=False,
        widget=forms.PasswordInput(attrs={'autocomplete': 'new-password'}),
        help_text=gettext_lazy('Stored encrypted and never shown again.'),
    )


def set_password(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Keep the manager's password, encrypted."""
    LdapAuthentication.objects.update_or_create(
        pk=1, defaults={'bind_password': vault.seal(directory.PURPOSE, data['password'])}
    )
    return Result(_('The manager password is saved.'))


def test_connection(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Ask every server, with the saved settings."""
    found = directory.test(LdapAuthentication.objects.get_or_create(pk=1)[0])
    if not found:
        raise Refused(_('Enter at least one server and save.'))
    if wrong := [f'{server}: {problem}' for server, problem in found if problem]:
        raise Refused('\n'.join(wrong))
    names = _(', ').join(server for server, _problem in found)
    return Result(_('Every server answers, its certificate is right and the search base is there: %(names)s.')
                  % {'names': names})  # fmt: skip


LDAP = SettingsPage(
    name='ldap-administrators',
    console='ucm',
    area='signin',
    menu='System > LDAP > LDAP Authentication for Administrators',
    title=gettext_lazy('LDAP Authentication for Administrators'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('Lets administrators of your directory sign in to these consoles with their own password.'),
    help=Help(
        when=gettext_lazy('When accounts and passwords of administrators are kept in one directory.'),
        effect=gettext_lazy(
            'From the next sign-in on. Roles come from External Groups, read at every sign-in and every few minutes '
            'while a token or a session is used. Users who are in no such group stay out.'
        ),
    ),
    related=('external-groups', 'application-users', 'credential-policy'),
    model=LdapAuthentication,
    fieldsets=(
        Fieldset(gettext_lazy('Directory'), ('enabled', 'servers', 'security', 'ca_certificate', 'timeout_s')),
        Fieldset(gettext_lazy('Users'), ('bind_dn', 'search_base', 'user_filter', 'recheck_minutes', 'local_users')),
        Fieldset(gettext_lazy('Groups'), ('group_base', 'group_filter', 'nested')),
    ),
    rules=(servers_are_valid, filters_are_valid, certificates_are_valid),
    commands=(
        Command('test', gettext_lazy('Test Connection'), test_connection, scope='page', at_once=True),
        Command('set-password', gettext_lazy('Set Manager Password'), set_password, scope='page', form=PasswordForm),
    ),
    bad={'timeout_s': (0, 31), 'recheck_minutes': (0, 1441), 'user_filter': ('(uid=x)', '(uid={user}')},
    configures=False,
)


def console_url_is_valid(row: SamlSignOn, before: Any) -> None:
    """Scheme and host; unprotected only on this machine."""
    parts = urlsplit(row.console_url)
    here = parts.hostname in ('127.0.0.1', 'localhost', '::1')
    right = parts.hostname and not (parts.path.strip('/') or parts.query or parts.fragment or parts.username)
    if row.console_url and not (right and (parts.scheme == 'https' or (parts.scheme == 'http' and here))):
        raise ValidationError({'console_url': _('Enter https:// and the name of this console, nothing behind it.')})
    if not row.enabled:
        return
    if saml.missing():
        raise ValidationError(
            {
                'enabled': _(
                    'The program xmlsec1 is missing on this machine. Install the package xmlsec1, then try again.'
                )
            }
        )


class MetadataForm(forms.Form):
    """The identity provider's metadata."""

    file = forms.FileField(label=gettext_lazy('File'), help_text=gettext_lazy('Metadata as an XML file.'))


def upload_metadata(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Keep the metadata of the identity provider."""
    raw = data['file'].read(saml.LARGEST + 1)
    try:
        text = raw.decode('utf-8-sig')
        if len(text) > saml.LARGEST:
            raise saml.Refused('it is too large')
        entity = saml.entity_of(text)
    except UnicodeDecodeError:
        raise ValidationError({'file': _('The file is not text in UTF-8.')}) from None
    except saml.Refused as error:
        raise ValidationError({'file': _('The metadata cannot be used: %(reason)s.') % {'reason': error}}) from None
    SamlSignOn.objects.update_or_create(pk=1, defaults={'idp_metadata': text, 'idp_entity': entity[:500]})
    return Result(_('The identity provider is %(name)s now.') % {'name': entity})


def renew_key(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Sign and decrypt with other keys from now on."""
    row = samlkey.renew()
    return Result(_('The new certificate is %(name)s. Give the identity provider the new metadata.')
                  % {'name': samlkey.fingerprint(row)})  # fmt: skip


SAML = SettingsPage(
    name='saml-single-sign-on',
    console='ucm',
    area='signin',
    menu='System > SAML Single Sign-On',
    title=gettext_lazy('SAML Single Sign-On'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('One sign-in at an identity provider opens all consoles.'),
    help=Help(
        when=gettext_lazy('When your organisation has an identity provider (SAML 2.0).'),
        effect=gettext_lazy(
            'From the next sign-in on. Give the provider the metadata that this console has at /saml/metadata/: its '
            'messages are signed with the key whose certificate is in it. Roles come from External Groups. Local users '
            'sign in at /login/?recovery=1.'
        ),
        guide='1045-1052',
    ),
    related=('external-groups', 'application-users'),
    model=SamlSignOn,
    fieldsets=(
        Fieldset(gettext_lazy('Single sign-on'), ('enabled', 'console_url', 'idp_entity')),
        Fieldset(gettext_lazy('Attributes'), ('user_attribute', 'group_attribute')),
        Fieldset(gettext_lazy('API Tokens'), ('token_days',)),
    ),
    rules=(console_url_is_valid,),
    commands=(
        Command(
            'metadata',
            gettext_lazy('Upload Identity Provider Metadata'),
            upload_metadata,
            scope='page',
            form=MetadataForm,
        ),
        Command(
            'renew-key',
            gettext_lazy('Renew Key'),
            renew_key,
            scope='page',
            danger=True,
            confirm=lambda objects: _(
                'Messages of this console are signed, and assertions encrypted for it, with new keys. Nobody may be '
                'able to sign in by the identity provider until it has the new metadata.'
            ),
        ),
    ),
    bad={
        'token_days': (0, 366),
        'console_url': ('imp.example.com', 'http://imp.example.com', 'https://imp.example.com/x'),
    },
    panel='signin/saml_state.html',
    configures=False,
)


def _create(actor: Actor, values: Mapping[str, Any]) -> ExternalGroup:
    """Nobody gives rights by a group that he does not have."""
    roles.require_covered(actor.grants, values['role'].grants)
    row = ExternalGroup(**values)
    row.save()
    return row


def _update(actor: Actor, row: ExternalGroup, values: Mapping[str, Any]) -> ExternalGroup:
    roles.require_covered(actor.grants, row.role.grants)
    for name, value in values.items():
        setattr(row, name, value)
    roles.require_covered(actor.grants, row.role.grants)
    row.save()
    return row


def _delete(actor: Actor, row: ExternalGroup) -> None:
    roles.require_covered(actor.grants, row.role.grants)
    row.delete()


def _sample_role() -> Any:
    from impadmin.console.models import Role

    return Role.objects.filter(name='operator').values_list('pk', flat=True).first()


GROUPS = Page(
    name='external-groups',
    console='ucm',
    area='signin',
    menu='User Management > User Settings > External Group',
    title=gettext_lazy('External Groups'),
    order=142,
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('Which role the members of a group of the directory or the identity provider get here.'),
    help=Help(
        when=gettext_lazy('When administrators sign in by LDAP or SAML.'),
        effect=gettext_lazy('At the next sign-in of each member.'),
    ),
    related=('ldap-administrators', 'saml-single-sign-on', 'roles'),
    model=ExternalGroup,
    columns=('name', 'source', 'role'),
    find=('name',),
    fieldsets=(Fieldset(gettext_lazy('External Group'), ('source', 'name', 'role')),),
    create=_create,
    update=_update,
    delete=_delete,
    copy_clear=('name',),
    ordering=('name', 'pk'),
    sample=lambda n: {'source': 'ldap', 'name': f'cn=admins{n},ou=groups,dc=example,dc=com', 'role': _sample_role()},
    bad={'name': ('', 'x' * 501), 'source': ('king',)},
)
PAGES = (LDAP, SAML, GROUPS)
