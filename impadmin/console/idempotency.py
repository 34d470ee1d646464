"""``Idempotency-Key``: a write that is sent again is not done again; its first answer is given once more.

The whole request runs in one transaction that ends with the stored answer: either both are there or none, whatever dies
in between. A second request with the same key finds its advisory lock taken (409) or the answer (same request: the
answer; another request: 422). Keys belong to the administrator who sent them. Answers are encrypted, because they may
contain what is shown only once. Kept for 24 hours, at most ``MOST`` for one administrator.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Any

from django.core.exceptions import BadRequest
from django.db import connection
from django.db.models import Subquery
from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext
from rest_framework import exceptions, status
from rest_framework.request import Request

from impadmin.console.actions import Refused
from impadmin.console.models import StoredAnswer
from impadmin.console.sealed import seal, unseal

HEADER = 'Idempotency-Key'
REPLAYED = 'Idempotency-Replayed'
KEPT = timedelta(hours=24)
MOST = 10_000
"""Most stored answers of one administrator; the oldest go first."""
_KEY = re.compile(r'[!-~]{1,255}')
_PURPOSE = 'idempotency'
_HEADERS = ('Content-Type', 'Location', 'ETag')


class OtherRequest(exceptions.APIException):
    """The key was used for another request."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY


class Replay(Exception):
    """The answer is known already."""

    def __init__(self, answer: HttpResponse) -> None:
        super().__init__()
        self.answer = answer


def claim(request: Request) -> StoredAnswer:
    """Take the key of ``request`` within the open transaction. Raises Replay, OtherRequest, Refused or BadRequest."""
    key = request.headers[HEADER]
    if not _KEY.fullmatch(key):
        raise BadRequest(gettext('Idempotency-Key: send 1 to 255 visible ASCII characters, for example a UUID.'))
    owner = str(getattr(request.user, 'username', ''))
    name = hashlib.sha256(f'{owner}\0{key}'.encode()).hexdigest()
    with connection.cursor() as cursor:
        cursor.execute('SELECT pg_try_advisory_xact_lock(%s)', [int(name[:15], 16)])
        if not cursor.fetchone()[0]:
            raise Refused(gettext('A request with this Idempotency-Key is under way. Ask again in a moment.'))
    found = StoredAnswer.objects.filter(key=name, at__gt=timezone.now() - KEPT).first()
    made = StoredAnswer(key=name, owner=owner, request=_fingerprint(request))
    if found is None:
        return made
    if found.request != made.request:
        raise OtherRequest(gettext('This Idempotency-Key was used for another request. Use a new key.'))
    content = unseal(_PURPOSE, found.content)
    if content is None:
        raise Refused(gettext('The answer to this Idempotency-Key can no longer be read. Use a new key.'))
    answer = HttpResponse(content, status=found.status, headers={**found.headers, REPLAYED: 'true'})
    raise Replay(answer)


def store(made: StoredAnswer, answer: Any) -> None:
    """Keep the rendered ``answer``, and let old ones go."""
    made.status, made.content = answer.status_code, seal(_PURPOSE, answer.content)
    made.headers = {name: answer[name] for name in _HEADERS if name in answer}
    StoredAnswer.objects.filter(key=made.key).delete()  # one that has run out
    made.save(force_insert=True)
    old = StoredAnswer.objects.filter(at__lt=timezone.now() - KEPT).order_by('at')[:100]
    surplus = StoredAnswer.objects.filter(owner=made.owner).order_by('-at')[MOST : MOST + 100]
    for keys in (old, surplus):
        StoredAnswer.objects.filter(pk__in=Subquery(keys.values('pk'))).delete()


def _fingerprint(request: Request) -> str:
    """What makes two requests the same: token, method, address, conditions and content; files by their bytes.

    The token, because the answer may be more than another token of the same administrator may see."""
    condition, token = request.headers.get('If-Match', ''), getattr(request.auth, 'pk', '')
    found = hashlib.sha256(f'{token}\0{request.method}\0{request.get_full_path()}\0{condition}\0'.encode())
    if str(request.content_type).startswith('multipart/'):
        form: Any = request.data
        for name, values in sorted(form.lists()):
            for value in values:
                found.update(f'{name}\0'.encode())
                for part in value.chunks() if hasattr(value, 'chunks') else [str(value).encode()]:
                    found.update(part)
                if hasattr(value, 'seek'):
                    value.seek(0)
    else:
        found.update(request.body)
    return found.hexdigest()
