"""Time-based one-time passwords (RFC 6238, 30 seconds, 6 digits) and recovery codes."""

from __future__ import annotations

import hashlib
import hmac
import io
import secrets
import time

import pyotp
import segno
from django.db import transaction
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from impadmin.console.models import Administrator
from impadmin.signin import vault
from impadmin.signin.models import RecoveryCode, SecondFactor

PURPOSE = 'second factor'
STEP_S = 30
CODES = 10
_ALPHABET = 'abcdefghjkmnpqrstuvwxyz23456789'


def active(user: Administrator) -> SecondFactor | None:
    """The second factor that ``user`` signs in with, or None."""
    return SecondFactor.objects.filter(administrator=user, confirmed_at__isnull=False).first()


def prepare(user: Administrator) -> str:
    """A secret for setting up: the one already offered, else a new one. It is not used until ``confirm``."""
    row = SecondFactor.objects.filter(administrator=user).first()
    if row is not None and row.confirmed_at is None:
        try:
            return vault.reveal(PURPOSE, row.secret)
        except vault.Unreadable:
            pass
    secret = pyotp.random_base32()
    if row is None or row.confirmed_at is None:
        SecondFactor.objects.update_or_create(
            administrator=user, defaults={'secret': vault.seal(PURPOSE, secret), 'last_step': 0}
        )
    return secret


def confirm(user: Administrator, code: str) -> list[str]:
    """Begin to use the prepared secret when ``code`` is one of its; the recovery codes, or [] for a wrong code."""
    row = SecondFactor.objects.filter(administrator=user, confirmed_at=None).first()
    if row is None or not _spend(row, code):
        return []
    with transaction.atomic():
        SecondFactor.objects.filter(pk=row.pk).update(confirmed_at=timezone.now())
        return new_codes(user)


def new_codes(user: Administrator) -> list[str]:
    """Fresh recovery codes in clear, shown once; the old ones end."""
    codes = ['-'.join(''.join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4)) for _ in range(CODES)]
    RecoveryCode.objects.filter(administrator=user).delete()
    RecoveryCode.objects.bulk_create(RecoveryCode(administrator=user, digest=_digest(code)) for code in codes)
    return codes


def spend(user: Administrator, code: str) -> str:
    """How ``code`` proves the second factor: 'code', 'recovery code', or '' when it does not. Each works once."""
    row = active(user)
    if row is None:
        return ''
    if _spend(row, code):
        return 'code'
    used, _ = RecoveryCode.objects.filter(administrator=user, digest=_digest(code)).delete()
    return 'recovery code' if used else ''


def remove(user: Administrator) -> None:
    """Sign in without a second factor again."""
    SecondFactor.objects.filter(administrator=user).delete()
    RecoveryCode.objects.filter(administrator=user).delete()


def _spend(row: SecondFactor, code: str) -> bool:
    """Whether ``code`` is the generator's of now, one step before or after, and newer than every accepted one."""
    try:
        generator = pyotp.TOTP(vault.reveal(PURPOSE, row.secret))
    except vault.Unreadable:
        return False
    given = ''.join(code.split()).encode()
    now = int(time.time()) // STEP_S
    for step in (now - 1, now, now + 1):
        if hmac.compare_digest(generator.generate_otp(step).encode(), given):
            return SecondFactor.objects.filter(pk=row.pk, last_step__lt=step).update(last_step=step) == 1
    return False


def _digest(code: str) -> str:
    """What is stored of a recovery code. It has 79 random bits, so a plain hash is enough."""
    plain = ''.join(char for char in code.lower() if char in _ALPHABET)
    return hashlib.sha256(plain.encode()).hexdigest()


def picture(user: Administrator, secret: str, issuer: str) -> SafeString:
    """The QR code for an authenticator app, as SVG for inside the page."""
    uri = pyotp.TOTP(secret).provisioning_uri(name=user.username, issuer_name=issuer)
    out = io.BytesIO()
    segno.make(uri, micro=False).save(
        out, kind='svg', scale=5, border=3, light='#fff', xmldecl=False, svgns=False, svgclass='qr', lineclass=None
    )
    return mark_safe(out.getvalue().decode())  # noqa: S308 - made of modules, no text of anybody
