"""REST authentication by bearer token."""

from rest_framework.authentication import BaseAuthentication


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer TOKEN``."""
