"""Profanity (Debian) in a terminal of its own: a tmux server with a private socket, a private HOME, nothing shared."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pytest

from tests.fixtures import data


class Terminal:
    """Profanity signed in as ``user``. A context manager; ``type`` sends a line, ``wait`` looks."""

    def __init__(self, user: str, port: int) -> None:
        self.home = tempfile.TemporaryDirectory(prefix='imp-profanity-')
        home = Path(self.home.name)
        self.socket = home / 'tmux'
        self.jid = f'{user}@{data.DOMAIN}'
        share, config = home / '.local/share/profanity', home / '.config/profanity'
        share.mkdir(parents=True)
        config.mkdir(parents=True)
        (share / 'accounts').write_text(
            f'[{self.jid}]\nenabled=true\njid={self.jid}\nserver=127.0.0.1\nport={port}\nresource=profanity\n'
            f'password={data.PASSWORD}\ntls.policy=force\n'
        )
        (config / 'profrc').write_text(
            '[ui]\nsplash=false\nroster=true\n[chatstates]\nenabled=false\n[logging]\nchlog=false\nhistory=false\n'
            '[connection]\ncarbons=true\nreceipts.request=true\nreceipts.send=true\nreconnect=0\nautoping=0\n'
        )
        environment = {**os.environ, 'HOME': str(home), 'LANG': 'C.UTF-8', 'LC_ALL': 'C.UTF-8', 'TERM': 'screen'}
        for name in ('TMUX', 'XDG_CONFIG_HOME', 'XDG_DATA_HOME'):
            environment.pop(name, None)
        self._environment = environment
        self._tmux('new-session', '-d', '-x', '180', '-y', '60', 'profanity', '-l', 'DEBUG', '-a', self.jid)

    def _tmux(self, *arguments: str) -> str:
        command = ['tmux', '-S', str(self.socket), '-f', '/dev/null', *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=20, check=False)
        return done.stdout

    def screen(self) -> str:
        """What the terminal shows."""
        return self._tmux('capture-pane', '-p')

    def type(self, line: str) -> None:
        """Type a line and press Enter."""
        self._tmux('send-keys', '-l', line)
        self._tmux('send-keys', 'Enter')

    def wait(self, *texts: str, timeout_s: float = 40) -> str:
        """Wait until the screen shows all of these; the screen."""
        deadline = time.monotonic() + timeout_s
        while not all(text in (screen := self.screen()) for text in texts):
            if time.monotonic() > deadline:
                pytest.fail(f'the terminal does not show {texts}:\n{screen}')
            time.sleep(0.1)
        return screen

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tmux('kill-server')
        self.home.cleanup()
