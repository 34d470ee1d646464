"""Extra form fields and command forms of User Management."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from impadmin.system.models import Node


def password_field(obj: Any) -> forms.Field:
    """The password, or nothing to keep the present one."""
    return forms.CharField(
        label=_('Password'),
        required=False,
        strip=False,
        max_length=127,
        widget=forms.PasswordInput(attrs={'autocomplete': 'new-password'}),
        help_text=_('Empty: the present password stays.') if obj and obj.pk else _('At most 127 characters.'),
    )


def password_again_field(obj: Any) -> forms.Field:
    """The password once more, against typing errors."""
    return forms.CharField(
        label=_('Confirm Password'),
        required=False,
        strip=False,
        max_length=127,
        widget=forms.PasswordInput(attrs={'autocomplete': 'new-password'}),
        help_text=_('The same password once more.'),
    )


def present_password_field(obj: Any) -> forms.Field:
    """The present password of who changes his own."""
    found = forms.CharField(
        label=_('Present password'),
        required=False,
        strip=False,
        max_length=127,
        widget=forms.PasswordInput(attrs={'autocomplete': 'current-password'}),
        help_text=_('Only when you change your own password.'),
    )
    found.edit_only = True  # type: ignore[attr-defined]
    return found


class AssignForm(forms.Form):
    """Where the selected users go."""

    how = forms.ChoiceField(
        label=_('Assignment'),
        choices=[
            ('node', _('To the node chosen below')),
            ('automatic', _('Automatic, by the User Assignment Mode')),
            ('none', _('Take the assignment away')),
        ],
        initial='node',
    )
    node = forms.ModelChoiceField(
        label=_('Home Node'), queryset=Node.objects.order_by('-publisher', 'name'), to_field_name='name', required=False
    )
