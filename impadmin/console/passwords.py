"""Password rules of administrators."""

from __future__ import annotations

from django.contrib.auth.password_validation import MinimumLengthValidator
from django.utils.translation import gettext


class LongEnough(MinimumLengthValidator):
    """Django's rule with messages of our own: its catalogues lack them in some of our languages."""

    def get_error_message(self) -> str:
        """What is wrong and what would be right."""
        return gettext('The password is too short. Use at least %(count)d characters.') % {'count': self.min_length}

    def get_help_text(self) -> str:
        """The rule."""
        return gettext('At least %(count)d characters.') % {'count': self.min_length}
