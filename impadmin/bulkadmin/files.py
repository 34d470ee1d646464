"""The files of Upload/Download Files: bytes under var/files/bulk/, named by the id of their row."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext

from impadmin.bulkadmin.formats import FORMATS
from impadmin.bulkadmin.models import BulkFile
from impadmin.console import downloads, jobs
from impadmin.console.actions import Actor, Refused
from impadmin.console.bulk import BLOCK, BadFile, receive
from impadmin.console.models import Job, JobState

NAME = re.compile(r'[^\x00-\x1f\x7f/\\:*?"<>|.][^\x00-\x1f\x7f/\\:*?"<>|]{0,149}')
OPEN_STATES = (JobState.HOLD, JobState.PENDING, JobState.PROCESSING)


def path(pk: int) -> Path:
    """Where the bytes of a file are."""
    return jobs.folder('bulk') / str(int(pk))


def incoming(name: str) -> Path:
    """A place for bytes on their way in."""
    return jobs.folder('incoming') / name


def check_name(name: str) -> str:
    """A file name without paths and without characters that some system cannot store. Raises ValidationError."""
    name = name.strip()
    if not NAME.fullmatch(name) or name.endswith((' ', '.')):
        raise ValidationError(
            gettext(
                'Use 1 to 150 characters for the file name. It cannot begin or end with a dot, and it cannot have any '
                'of / \\ : * ? " < > | in it.'
            )
        )
    return name


def used_by(file: BulkFile) -> list[int]:
    """IDs of the jobs that wait or run with this file."""
    found = Job.objects.filter(state__in=OPEN_STATES, parameters__file=file.pk)
    return list(found.order_by('pk').values_list('pk', flat=True))


def in_use(file: BulkFile) -> str:
    """Why the file cannot be deleted or replaced now, or ''."""
    if ids := used_by(file):
        listed = ', '.join(str(pk) for pk in ids)
        return gettext('The file is used by a job that has not ended (job ID %(ids)s).') % {'ids': listed}
    return ''


def create(actor: Actor, values: Mapping[str, Any]) -> BulkFile:
    """Store an upload: check it while it streams through, then make it visible in one step."""
    upload: UploadedFile = values['file']
    form = FORMATS[values['transaction']]
    if form.target != values['target']:
        raise ValidationError({'transaction': [gettext('This transaction type belongs to another target.')]})
    try:
        name = check_name(upload.name or '')
    except ValidationError as error:
        raise ValidationError({'file': error.messages}) from error
    sweep()
    handle, where = tempfile.mkstemp(dir=jobs.folder('incoming'))
    target = Path(where)
    try:
        with os.fdopen(handle, 'wb') as file:
            size, digest = receive(upload, file, form.columns, form.least, form.layout)
        old = BulkFile.objects.select_for_update().filter(name=name).first()
        if old is not None:
            _replace(old, bool(values.get('overwrite')))
        record = BulkFile.objects.create(
            name=name,
            target=values['target'],
            transaction=values['transaction'],
            size=size,
            sha256=digest,
            owner=actor.name,
        )
        adopt(target, record.pk)
    except BadFile as error:
        raise ValidationError({'file': [gettext(error.text) % error.values]}) from error
    finally:
        target.unlink(missing_ok=True)
    return record


def _replace(old: BulkFile, overwrite: bool) -> None:
    if not overwrite:
        text = gettext('There is already a file named %(name)s. Tick "Overwrite file if it exists" to replace it.')
        raise ValidationError({'file': [text % {'name': old.name}]})
    if reason := in_use(old):
        raise ValidationError({'file': [reason]})
    remove(old)


def adopt(source: Path, pk: int) -> None:
    """Give stored bytes to a row, before the row becomes visible. Bytes of a rolled back row are swept later."""
    source.replace(path(pk))


def remove(file: BulkFile) -> None:
    """Delete the row, and its bytes once that is committed."""
    where = path(file.pk)
    file.delete()
    transaction.on_commit(lambda: where.unlink(missing_ok=True))


def delete(actor: Actor, file: BulkFile) -> None:
    """Delete Selected."""
    if reason := in_use(file):
        raise Refused(f'{file.name}: {reason}')
    remove(file)


def measure(where: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file, which is on the disk afterwards."""
    digest = hashlib.sha256()
    with where.open('rb') as file:
        os.fsync(file.fileno())
        while block := file.read(BLOCK):
            digest.update(block)
    return where.stat().st_size, digest.hexdigest()


def sweep() -> None:
    """Remove bytes without a row that are older than two hours: left by a rollback or a crash."""
    before = time.time() - 7200
    known = {str(pk) for pk in BulkFile.objects.values_list('pk', flat=True)}
    for folder, keep in ((jobs.folder('bulk'), known), (jobs.folder('incoming'), set())):
        for entry in folder.iterdir():
            if entry.name not in keep and entry.stat().st_mtime < before:
                entry.unlink(missing_ok=True)


def send(request: HttpRequest, where: Path, name: str, inline: bool = False) -> HttpResponseBase:
    """Stream a stored file. ``inline`` shows it in the browser, as plain text that nothing can run."""
    try:
        file = where.open('rb')
    except FileNotFoundError as error:
        raise Refused(gettext('The file is no longer there.')) from error
    kind = downloads.TEXT if inline else downloads.CSV
    return downloads.streamed(request, downloads.file_blocks(file), name, kind, inline=inline)


def zipped(chosen: Sequence[BulkFile]) -> Iterator[bytes]:
    """A ZIP archive of files, made while it is sent."""
    sink = _Sink()
    with zipfile.ZipFile(sink, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:  # type: ignore[arg-type]
        for file in chosen:
            with archive.open(file.name, 'w', force_zip64=True) as entry, path(file.pk).open('rb') as source:
                while block := source.read(BLOCK):
                    entry.write(block)
                    yield sink.take()
    yield sink.take()


class _Sink:
    """A file that cannot seek: keeps what the archive wrote until it is sent."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.at = 0

    def write(self, data: bytes) -> int:
        self.parts.append(bytes(data))
        self.at += len(data)
        return len(data)

    def tell(self) -> int:
        return self.at

    def flush(self) -> None:
        pass

    def seekable(self) -> bool:
        return False

    def take(self) -> bytes:
        data = b''.join(self.parts)
        self.parts.clear()
        return data
