"""Rules for end users and application users."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext as _

from engine.contract.jid import InvalidJID, escape_local, prepare_domain, prepare_local
from impadmin.presence import inventory
from impadmin.presence.rules import name_error
from impadmin.ucm.addresses import address_of, source_field
from impadmin.ucm.models import EndUser


def user_id_is_free(user: EndUser, before: Any) -> None:
    """User IDs differ by more than case."""
    if before is not None and before.user_id == user.user_id:
        return
    if EndUser.objects.filter(user_id__iexact=user.user_id).exclude(pk=user.pk).exists():
        raise ValidationError({'user_id': _('The user ID %(id)s is already in use.') % {'id': user.user_id}})


def user_id_is_an_address(user: EndUser, before: Any) -> None:
    """The user ID can be the user part of an IM address."""
    try:
        prepare_local(escape_local(user.user_id))
    except InvalidJID:
        raise ValidationError(
            {'user_id': _('This user ID has a character that an IM address cannot carry. Use letters and digits.')}
        ) from None


def extension_is_free(user: EndUser, before: Any) -> None:
    """No two users have the same primary extension."""
    if user.extension and (before is None or before.extension != user.extension):
        other = EndUser.objects.filter(extension=user.extension).exclude(pk=user.pk).first()
        if other is not None:
            raise ValidationError(
                {'extension': _('The extension %(number)s belongs to the user %(user)s already.')
                 % {'number': user.extension, 'user': other.user_id}}
            )  # fmt: skip


def directory_uri_error(uri: str) -> str:
    """What is wrong with a Directory URI, or ''. The empty one is no error here."""
    uri = uri.strip()
    if not uri:
        return ''
    local, at, domain = uri.rpartition('@')
    if not at or not local or not domain:
        return _('“%(uri)s” is no Directory URI. Enter user@domain, for example jsmith@example.com.') % {'uri': uri}
    if domain.isascii() and (error := name_error(domain)):
        return error
    try:
        prepare_local(escape_local(local))
        hosted = prepare_domain(domain)
    except InvalidJID:
        return _('“%(uri)s” has a character that an IM address cannot carry.') % {'uri': uri}
    return name_error(hosted)


def directory_uri_is_valid(user: EndUser, before: Any) -> None:
    """The Directory URI has the form user@domain with a domain that can be hosted."""
    if error := directory_uri_error(user.directory_uri):
        raise ValidationError({'directory_uri': error})


def mail_is_valid(user: EndUser, before: Any) -> None:
    """The mail ID is an e-mail address."""
    if user.mail:
        try:
            validate_email(user.mail)
        except ValidationError:
            raise ValidationError(
                {'mail': _('Enter an e-mail address, for example jsmith@example.com, or leave it empty.')}
            ) from None


def im_address_is_unique(user: EndUser, before: Any) -> None:
    """No two users have the same IM address, compared without regard to case."""
    settings = inventory.advanced()
    address = address_of(user, settings)
    if before is not None and before.im_address == address:
        return
    other = address and EndUser.objects.filter(im_address=address).exclude(pk=user.pk).first()
    if other:
        raise ValidationError(
            {
                source_field(settings): _('The IM address %(address)s belongs to the user %(user)s already.')
                % {'address': address, 'user': other.user_id}
            }
        )
