"""Rules for the names of IM address domains (guide 1345-1347, spec 01 section 11)."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from impadmin.messaging import names
from impadmin.presence.models import Domain

NOT_SET = 'DOMAIN.NOT.SET'
"""The default domain of a system that was never given one."""
_CHARACTERS = re.compile(r'[A-Za-z0-9-]+')


def name_error(name: str) -> str:
    """What is wrong with ``name`` as a domain, naming the offending label, or ''."""
    if not name:
        return _('Enter a domain name, for example example.com.')
    if len(name) > 255:
        return _('The name has %(length)d characters; at most 255 are allowed.') % {'length': len(name)}
    if name.upper() == NOT_SET:
        return _('DOMAIN.NOT.SET is reserved. Enter the name of your domain.')
    labels = name.split('.')
    for label in labels:
        if error := _label_error(label):
            return error
    if labels[-1][0].isdigit():
        return _('The last part “%(label)s” begins with a digit. It must begin with a letter.') % {'label': labels[-1]}
    return ''


def _label_error(label: str) -> str:
    shown = {'label': label}
    if not label:
        return _('A part of the name is empty. Put letters, digits or hyphens before, between and after the dots.')
    if not _CHARACTERS.fullmatch(label):
        wrong = next(char for char in label if not _CHARACTERS.fullmatch(char))
        if not label.isascii():
            return _(
                'The part “%(label)s” has the character “%(char)s”. '
                'Write international names in their ASCII form, which begins with xn--.'
            ) % {**shown, 'char': wrong}
        return _('The part “%(label)s” has the character “%(char)s”. Use letters, digits and hyphens only.') % {
            **shown,
            'char': wrong,
        }
    if label.startswith('-'):
        return _('The part “%(label)s” begins with a hyphen. It must begin with a letter or digit.') % shown
    if label.endswith('-'):
        return _('The part “%(label)s” ends with a hyphen. It must end with a letter or digit.') % shown
    if len(label) > 63:
        return _('The part “%(label)s” is longer than 63 characters.') % shown
    return ''


def domain_name_is_valid(domain: Domain, before: Any) -> None:
    """The name obeys the printed rule; the message names the offending label."""
    if error := name_error(domain.name):
        raise ValidationError({'name': error})


def domain_is_unique(domain: Domain, before: Any) -> None:
    """Unique in the cluster without regard to case, whatever the type of the other row. What only peers have may be
    configured here, too."""
    if Domain.objects.filter(key=domain.name.lower(), local=True).exclude(pk=domain.pk).exists():
        raise ValidationError({'name': _('The domain %(name)s already exists.') % {'name': domain.name}})


def domain_is_for_users(domain: Domain, before: Any) -> None:
    """Neither a component nor chat rooms have the name (guide 7983)."""
    if error := names.given(domain.name.lower()):
        raise ValidationError({'name': error})
