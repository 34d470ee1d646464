"""How the console reaches a directory: servers, the manager's password, whom to trust."""

from __future__ import annotations

from django.utils.translation import gettext as _

from engine.contract import ldap, sealing
from engine.contract.certificates import PURPOSES, TOMCAT
from engine.contract.config import LdapServer
from impadmin.console import sealed
from impadmin.osadmin.models import Certificate, Kind
from impadmin.ucm.ldap_models import MOST_SERVERS, Asked, LdapSystem
from impadmin.ucm.ldap_rules import parameters


def seal(password: str) -> str:
    """A manager's password as it is stored."""
    return sealed.seal(sealing.LDAP, password.encode())


def system() -> LdapSystem:
    """The one row of LDAP System."""
    return LdapSystem.objects.filter(pk=1).first() or LdapSystem(pk=1)


def servers(row: Asked) -> tuple[LdapServer, ...]:
    """The servers in their order."""
    numbers = range(1, MOST_SERVERS + 1)
    return tuple(
        LdapServer(host=getattr(row, f'host_{n}'), port=getattr(row, f'port_{n}'), tls=getattr(row, f'tls_{n}'))
        for n in numbers
        if getattr(row, f'host_{n}')
    )


def protected(row: Asked) -> set[tuple[str, LdapServer]]:
    """To whom the password may be shown: pairs of manager and server."""
    return {(row.manager_dn, server) for server in servers(row)}


def authorities() -> str:
    """Whom to trust: PEM of what is in tomcat-trust (guide 2561-2563)."""
    found = Certificate.objects.filter(kind=Kind.TRUST, name=PURPOSES[TOMCAT].trust).order_by('pk')
    return ''.join(found.values_list('pem', flat=True))


def access(row: Asked) -> ldap.Access:
    """Who asks. Raises ldap.NoAnswer when the password cannot be read any more."""
    clear = sealed.unseal(sealing.LDAP, row.sealed_password) if row.sealed_password else b''
    if not clear:
        raise ldap.NoAnswer(_('The manager password is not set, or cannot be read any more. Set it again.'))
    return ldap.Access(row.manager_dn, clear.decode(), parameters()['ldap_timeout_s'], authorities())


def test(row: Asked) -> list[tuple[str, str]]:
    """(server, what is wrong or '') of every server: connection, certificate, bind and the search base."""
    found = []
    for server in servers(row):
        problem = ''
        try:
            with ldap.connected(server, access(row)) as connection:
                ldap.entries(connection, row.search_base, '(objectClass=*)', ['1.1'], most=1)
        except ldap.NoAnswer as error:
            problem = str(error).removeprefix(f'{ldap.say(server)}: ')
        except ldap.Refusal as error:
            problem = plain(error, row)
        found.append((ldap.say(server), problem))
    return found


def plain(error: ldap.Refusal, row: Asked) -> str:
    """A result code (RFC 4511 4.1.9) in plain words."""
    words = {
        32: _('The search base %(base)s does not exist (32).') % {'base': row.search_base},
        34: _('A distinguished name is not valid (34).'),
        49: _('The manager or the password is wrong (49).'),
        50: _('The manager may not read there (50).'),
        4: _('The directory ended the search at its size limit (4).'),
        3: _('The directory ended the search at its time limit (3).'),
        11: _('The directory ended the search at an administrative limit (11).'),
    }
    return words.get(error.code) or f'{error} ({error.code})'
