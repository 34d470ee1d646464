"""Administrators made from the command line."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext

from impadmin.console import audit
from impadmin.console.actions import Actor
from impadmin.console.models import Administrator, Role

MENU = 'User Management > Application User'


def create(actor: Actor, username: str, role: str, password: str) -> Administrator:
    """Add an administrator with its audit entry. Raises ValidationError by field."""
    if role not in Role.values:
        raise ValidationError({'role': gettext('Choose one of: %(choices)s.') % {'choices': ', '.join(Role.values)}})
    administrator = Administrator(username=username, role=role)
    check_password(password, administrator)
    administrator.set_password(password)
    with transaction.atomic():
        administrator.full_clean()
        if Administrator.objects.filter(username__iexact=username).exists():
            raise ValidationError({'username': gettext('The user ID %(id)s is already in use.') % {'id': username}})
        administrator.save()
        audit.record(actor, 'create', None, administrator, None, audit.snapshot(administrator), menu=MENU)
    return administrator


def set_password(actor: Actor, administrator: Administrator, password: str) -> None:
    """Give an administrator a new password; every session of his ends."""
    check_password(password, administrator)
    with transaction.atomic():
        administrator.set_password(password)
        administrator.save(update_fields=['password'])
        audit.record(actor, 'update', None, administrator, None, {'password': audit.HIDDEN}, menu=MENU)


def check_password(password: str, administrator: Administrator) -> None:
    """Raise ValidationError at ``password`` when it is too weak."""
    try:
        validate_password(password, administrator)
    except ValidationError as error:
        raise ValidationError({'password': error.messages}) from None
