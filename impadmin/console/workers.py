"""Who works on a job: the token that holds its lease."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path


def worker_token() -> str:
    """Host, process and a random part: who holds a lease."""
    return f'{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:12]}'


def is_gone(token: str) -> bool:
    """Whether the holder was a process of this host that no longer runs; then its lease need not run out."""
    host, _, rest = token.partition(':')
    pid = rest.partition(':')[0]
    if host != socket.gethostname()[:40] or not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        return 'Z' in Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return Path('/proc/self').exists()
    except OSError:
        return False
