"""Acceptance 1: a fresh clone, the commands of the README, and what the supervisor promises.

The virtual environment is made once for the module; pip takes the packages from its cache when it has them.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.processes import ROOT, free_port
from tests.xmppclient import XmppClient

OWN = ('DATABASE_URL', 'REDIS_URL', 'DJANGO_', 'IMP_', 'VIRTUAL_ENV', 'PYTEST', 'MAKE')
CHOSEN = {'IMP_ORGANIZATION_DOMAIN': 'example.org', 'PIP_NO_COMPILE': 'no'}
"""Beside the ports. The second (pip reads it this way round): what nobody imports is not compiled."""
USERS = {'user_id': 'carol', 'last_name': 'Carol', 'password': 'a long word 1'}


class Run:
    """One ``make run`` in a clone, as a terminal would start it."""

    def __init__(self, folder: Path, ports: dict[str, int], target: str = 'run') -> None:
        self.folder, self.ports = folder, ports
        self.output_path = folder.parent / f'output-{time.monotonic_ns()}.txt'
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        settings = {name: str(port) for name, port in ports.items()}
        with self.output_path.open('wb') as output:
            self.process = subprocess.Popen(
                ['make', target], cwd=folder, env=kept | settings | CHOSEN,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def output(self) -> str:
        """Everything printed so far."""
        return self.output_path.read_text(errors='replace')

    def wait_for(self, text: str, timeout_s: float) -> str:
        """Wait until ``text`` was printed; everything printed by then."""
        deadline = time.monotonic() + timeout_s
        while text not in (output := self.output()):
            assert self.process.poll() is None, f'ended:\n{output[-4000:]}'
            assert time.monotonic() < deadline, f'{text!r} not within {timeout_s} s:\n{output[-4000:]}'
            time.sleep(0.1)
        return output

    def interrupt(self) -> str:
        """Ctrl-C, as the terminal sends it to the foreground group; the whole output."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(60)
        return self.output()

    def supervisor(self) -> int:
        """Its process id."""
        return int((self.folder / 'var' / 'supervisor.lock').read_text())


def leftovers(folder: Path) -> list[str]:
    """Command lines of processes that run something of the clone."""
    found = []
    for entry in Path('/proc').iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (line := (entry / 'cmdline').read_bytes()):
                found.append(line.replace(b'\0', b' ').decode(errors='replace'))
        except OSError:
            continue
    return found


@pytest.fixture(scope='module')
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, int]]]:
    """A fresh clone with three free ports, stopped afterwards whatever happened."""
    folder = tmp_path_factory.mktemp('clone') / 'imp'
    subprocess.run(['git', 'clone', '--quiet', str(ROOT), str(folder)], check=True)
    yield folder, {name: free_port() for name in ('IMP_CONSOLE_PORT', 'IMP_CLIENT_PORT', 'IMP_DIRECT_TLS_PORT')}
    record = folder / 'var' / 'supervisor.json'
    if record.exists():
        pid = int((folder / 'var' / 'supervisor.lock').read_text())
        os.kill(pid, signal.SIGTERM)
        while Path(f'/proc/{pid}').exists():
            time.sleep(0.1)


def in_clone(folder: Path, *command: str) -> str:
    """Run a command of the README in the clone; its standard output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    done = subprocess.run(command, cwd=folder, env=kept, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def rest(url: str, token: str, method: str, path: str, body: Any = None) -> Any:
    """One REST call."""
    headers = {'Authorization': f'Bearer {token}', 'Content-Type': 'application/json'}
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, content, headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.loads(answer.read() or b'null')


def log_in(url: str, password: str) -> str:
    """Log in by the form; the page that follows."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = browser.open(f'{url}/login/', timeout=30).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    form = {'csrfmiddlewaretoken': token[1], 'username': 'admin', 'password': password}
    browser.addheaders = [('Referer', f'{url}/login/')]
    return browser.open(f'{url}/login/', urllib.parse.urlencode(form).encode(), timeout=30).read().decode()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_run_from_a_fresh_clone(clone: tuple[Path, dict[str, int]]) -> None:
    folder, ports = clone
    url = f'http://127.0.0.1:{ports["IMP_CONSOLE_PORT"]}'

    # first run: everything from nothing
    first = Run(folder, ports)
    output = first.wait_for('Ctrl-C', 400)
    password = re.search(r'password (\S+) \(shown once\)', output)
    assert password, output[-3000:]
    assert f'{url}/api/docs/' in output
    assert f'port {ports["IMP_CLIENT_PORT"]} (STARTTLS), {ports["IMP_DIRECT_TLS_PORT"]} (direct TLS)' in output
    assert 'Cluster Topology' in log_in(url, password[1])
    token = in_clone(folder, '.venv/bin/python', 'manage.py', 'createtoken', 'admin', 'my script')
    node = rest(url, token, 'GET', '/api/v1/cluster-topology/')['results'][0]
    rest(url, token, 'POST', '/api/v1/end-users/', {**USERS, 'home_node': node['id']})
    sign_in(ports)

    # a process that dies comes back; a second run and a busy port are refused in one line
    killed = next(
        entry for entry in json.loads((folder / 'var/supervisor.json').read_text()) if entry['name'] == 'beat'
    )
    os.kill(killed['pid'], signal.SIGKILL)
    first.wait_for('beat was ended by SIGKILL; starting it again in 1 s', 20)
    second = Run(folder, ports)
    assert second.process.wait(60) != 0
    assert f'It runs already (process {first.supervisor()})' in second.output()

    # Ctrl-C leaves nothing running
    output = first.interrupt()
    assert 'Everything is stopped.' in output
    assert 'did not end' not in output
    assert leftovers(folder) == []

    # the data is there again; after kill -9 of the supervisor the next run ends what was left
    again = Run(folder, ports)
    output = again.wait_for('Ctrl-C', 90)
    assert 'shown once' not in output
    sign_in(ports)
    os.kill(again.supervisor(), signal.SIGKILL)
    again.process.wait(20)
    assert leftovers(folder)
    third = Run(folder, ports)
    output = third.wait_for('Ctrl-C', 120)
    assert 'left by a run that was killed' in output
    sign_in(ports)
    third.interrupt()
    assert leftovers(folder) == []

    # a port that is taken
    with socket.create_server(('127.0.0.1', ports['IMP_CONSOLE_PORT'])):
        refused = Run(folder, ports)
        assert refused.process.wait(60) != 0
    lines = [line for line in refused.output().splitlines() if line.startswith('imp ')]
    assert len(lines) == 1
    assert 'IMP_CONSOLE_PORT' in lines[0]
    assert leftovers(folder) == []


def sign_in(ports: dict[str, int]) -> None:
    """A real client signs in on both ports."""
    for port, direct in ((ports['IMP_CLIENT_PORT'], False), (ports['IMP_DIRECT_TLS_PORT'], True)):
        client = XmppClient('carol@example.org', USERS['password'], port=port, direct_tls=direct).connect()
        client.close()
