"""A Prosody of its own for the conversations: temporary folder, one port on 127.0.0.1, no federation."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from engine import tls
from tests.conversations.player import Peer

DOMAIN = 'example.com'
PASSWORD = 'correct horse 1'
MODULES = (
    'roster', 'saslauth', 'tls', 'disco', 'presence', 'message', 'iq', 'ping', 'version', 'time', 'uptime', 'offline',
    'lastactivity', 'vcard_legacy', 'vcard4', 'blocklist', 'carbons', 'smacks', 'csi', 'csi_simple', 'pep', 'private',
    'mam', 'bookmarks',
)  # fmt: skip
CONFIG = """
run_as_root = true
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
log = {{ info = "{folder}/prosody.log" }}
modules_enabled = {{ {modules} }}
modules_disabled = {{ "s2s", "posix" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
c2s_require_encryption = true
authentication = "internal_plain"
storage = "internal"
archive_expires_after = "never"
ssl = {{ key = "{certificate}", certificate = "{certificate}" }}
VirtualHost "{domain}"
Component "pubsub.{domain}" "pubsub"
Component "rooms.{domain}" "muc"
    name = "Chat Rooms"
"""


class Prosody:
    """Started and stopped as a context manager. ``peer(prefix)`` is the server for one file."""

    def __init__(self, users: Iterable[str]) -> None:
        program = shutil.which('prosody')
        if program is None:
            raise RuntimeError('There is no Prosody. On Debian: apt-get install prosody')
        self.folder = Path(tempfile.mkdtemp(prefix='imp-prosody-'))
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            self.port = int(probe.getsockname()[1])
        certificate = tls.certificate(self.folder / 'tls', DOMAIN, '127.0.0.1', [DOMAIN])
        accounts = self.folder / 'data' / DOMAIN.replace('.', '%2e') / 'accounts'
        accounts.mkdir(parents=True)
        for user in users:
            name = ''.join(c if c.isalnum() else f'%{ord(c):02x}' for c in user)
            (accounts / f'{name}.dat').write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
        modules = ', '.join(f'"{module}"' for module in MODULES)
        config = self.folder / 'prosody.cfg.lua'
        config.write_text(
            CONFIG.format(folder=self.folder, modules=modules, port=self.port, domain=DOMAIN, certificate=certificate)
        )
        self.process = subprocess.Popen(
            [program, '--config', str(config), '-F'], stdin=subprocess.DEVNULL, start_new_session=True,
            stdout=(self.folder / 'output').open('wb'), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def peer(self, prefix: str) -> Peer:
        """The server, for a file whose users end in ``prefix``."""
        return Peer('prosody', self.port, DOMAIN, PASSWORD, prefix)

    def wait(self) -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f'Prosody does not listen: {self.log()}') from None
                time.sleep(0.05)

    def log(self) -> str:
        """What it has said."""
        return ''.join(
            path.read_text(errors='replace')[-30_000:]
            for path in (self.folder / 'output', self.folder / 'prosody.log')
            if path.exists()
        )

    def __enter__(self) -> Prosody:
        try:
            self.wait()
        except RuntimeError:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and remove its folder."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
