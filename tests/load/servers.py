"""The servers the benchmark compares: this engine, Prosody and ejabberd, each with the same users, on one core.

All of them: direct TLS on 127.0.0.1 with one ECDSA P-256 certificate, passwords stored hashed, no archive, no server
to server. Users ``u0``... without contacts, ``p0``... with 50 mutual contacts each (a ring). Peers are those of
Debian 12; their folders are below ``--folder``.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.load.client import PASSWORD

DOMAIN = 'example.com'
CORE = '0'
FILES = 20_000
PRESENCE_USERS = 300
CONTACTS = 50


@dataclass
class Server:
    """One way to start a server. ``pids`` are the processes whose CPU and memory count."""

    name: str
    port: int
    command: list[str]
    comm: str
    """Name of the process that does the work."""
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    pid: int = 0

    def start(self) -> None:
        """Start on core 0, wait until it listens. Raises RuntimeError when it does not."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(('127.0.0.1', self.port))  # somebody else's server there would be measured instead
        command = ['taskset', '-c', CORE, 'prlimit', f'--nofile={FILES}:{FILES}', *self.command]
        self.process = subprocess.Popen(command, env=os.environ | self.environment, start_new_session=True)
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.port), 1).close()
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise RuntimeError(f'{self.name} does not listen on port {self.port}') from None
                time.sleep(0.1)
        self.pid = next((pid for pid in _family(self.process.pid) if _comm(pid).startswith(self.comm)), 0)
        if not self.pid:
            self.stop()
            raise RuntimeError(f'{self.name} has no process {self.comm}')

    def stop(self) -> None:
        """End it and everything it started."""
        if self.process is None:
            return
        everyone = list(_family(self.process.pid))
        for target, number in ((self.pid or self.process.pid, self.stop_signal), (0, signal.SIGKILL)):
            for pid in [target] if target else everyone:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                continue
            break
        for pid in everyone[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process = None
        self.pid = 0


def _comm(pid: int) -> str:
    try:
        return Path(f'/proc/{pid}/comm').read_text().strip()
    except OSError:
        return ''


def _family(pid: int) -> Iterator[int]:
    """The process and what descends from it."""
    yield pid
    try:
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def users(count: int) -> list[tuple[str, list[str]]]:
    """(user, contacts) of everyone."""
    plain: list[tuple[str, list[str]]] = [(f'u{number}', []) for number in range(count)]
    half = CONTACTS // 2
    for number in range(PRESENCE_USERS):
        steps = (*range(-half, 0), *range(1, half + 1))
        plain.append((f'p{number}', [f'p{(number + step) % PRESENCE_USERS}' for step in steps]))
    return plain


# ---- this engine


def engine(folder: Path, people: list[tuple[str, list[str]]]) -> Server:
    """The node ``imp1`` of the database of DATABASE_URL, with the users made in it."""
    _fill_database(people)
    environment = {
        'IMP_BIND': '127.0.0.1',
        'IMP_CLIENT_PORT': '28321',
        'IMP_DIRECT_TLS_PORT': '28322',
        'IMP_LOG_LEVEL': 'warning',
    }
    command = [sys.executable, 'manage.py', 'engine', '--node', 'imp1']
    return Server('engine', 28322, command, 'python', environment)


def _fill_database(people: list[tuple[str, list[str]]]) -> None:
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'impadmin.settings')
    import django

    django.setup()
    from django.core.management import call_command

    from engine.contract.credentials import verifiers
    from engine.contract.services import CONNECTION_MANAGER
    from impadmin.console.actions import SYSTEM, do_set_parameters
    from impadmin.system.models import Node
    from impadmin.ucm.models import EndUser, RosterItem
    from tests.fixtures import data

    call_command('migrate', verbosity=0)
    if not Node.objects.exists():
        data.install()
    node = Node.objects.get(name=data.NODE)
    do_set_parameters(SYSTEM, CONNECTION_MANAGER, node, {'connections_per_ip': 20_000})
    known = set(EndUser.objects.values_list('user_id', flat=True))
    stored = verifiers(PASSWORD)
    EndUser.objects.bulk_create(
        EndUser(
            user_id=user,
            last_name=user,
            home_node=node,
            im_address=f'{user}@{DOMAIN}',
            credentials=stored,
            contact_count=len(contacts),
            watcher_count=len(contacts),
        )
        for user, contacts in people
        if user not in known
    )
    ids = dict(EndUser.objects.values_list('user_id', 'pk'))
    RosterItem.objects.bulk_create(
        RosterItem(user_id=ids[user], jid=f'{contact}@{DOMAIN}', subscription=3)
        for user, contacts in people
        if user not in known
        for contact in contacts
    )


def certificate(folder: Path) -> Path:
    """One certificate for everyone: made by the engine's own code."""
    from engine import tls

    return tls.certificate(folder / 'tls', 'bench', '127.0.0.1', [DOMAIN])


# ---- Prosody

_PROSODY = """
run_as_root = true; daemonize = false; network_backend = "epoll"; pidfile = "{folder}/pid"; data_path = "{folder}/data"
modules_enabled = {{ "roster", "saslauth", "disco", "presence", "message", "iq", "ping", "c2s", "offline" }}
modules_disabled = {{ "s2s", "tls" }}
interfaces = {{ "127.0.0.1" }}; c2s_ports = {{ }}; c2s_direct_tls_ports = {{ {port} }}; c2s_require_encryption = true
authentication = "internal_hashed"; storage = "internal"; log = {{ warn = "{folder}/log" }}
network_settings = {{ tcp_backlog = 1024 }}; ssl = {{ key = "{pem}", certificate = "{pem}" }}
{more}
VirtualHost "{domain}"
"""
TUNED = 'gc = { mode = "incremental", threshold = 400, speed = 400 }'


def prosody(folder: Path, people: list[tuple[str, list[str]]], tuned: bool) -> Server:
    """Accounts and rosters are written as data files."""
    name, port = ('Prosody tuned', 28422) if tuned else ('Prosody', 28423)
    own = folder / name.lower().replace(' ', '-')
    shutil.rmtree(own, ignore_errors=True)
    pem = certificate(folder)
    store = own / 'data' / DOMAIN.replace('.', '%2e')
    for part in ('accounts', 'roster'):
        (store / part).mkdir(parents=True)
    account = _prosody_account()
    for user, contacts in people:
        (store / 'accounts' / f'{user}.dat').write_text(account)
        if contacts:
            items = ''.join(
                f'["{contact}@{DOMAIN}"]={{["subscription"]="both";["groups"]={{}};}};' for contact in contacts
            )
            head = '[false]={["version"]=1;["pending"]={};};'
            (store / 'roster' / f'{user}.dat').write_text(f'return {{{head}{items}}};\n')
    file = own / 'prosody.cfg.lua'
    file.write_text(_PROSODY.format(folder=own, port=port, pem=pem, domain=DOMAIN, more=TUNED if tuned else ''))
    return Server(name, port, ['prosody', '--config', str(file), '-F'], 'lua')


def _prosody_account() -> str:
    from engine.contract.credentials import verifiers

    salt, iterations, stored, server = verifiers(PASSWORD, salt=b'0123456789abcdef')['SCRAM-SHA-1']
    keys = {'stored_key': base64.b64decode(str(stored)).hex(), 'server_key': base64.b64decode(str(server)).hex()}
    text = ''.join(f'["{name}"]="{value}";' for name, value in keys.items())
    return f'return {{{text}["salt"]="{base64.b64decode(str(salt)).decode()}";["iteration_count"]={iterations};}};\n'


# ---- ejabberd

_EJABBERD = """
hosts: [{domain}]
loglevel: warning
ca_file: "{pem}"
listen:
  - {{port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, tls: true, shaper: none, access: all,
      backlog: 1024, max_stanza_size: 262144}}
auth_method: internal
auth_password_format: scram
default_db: mnesia
cache_size: 100000
certfiles: ["{pem}"]
access_rules: {{}}
shaper_rules: {{max_user_sessions: 10, max_user_offline_messages: 5000}}
modules:
  mod_admin_extra: {{}}
  mod_disco: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_offline: {{}}
"""
_CTL = """
ERLANG_NODE=bench@127.0.0.1
INET_DIST_INTERFACE=127.0.0.1
ERL_DIST_PORT=28529
"""


def ejabberd(folder: Path, people: list[tuple[str, list[str]]]) -> Server:
    """As its own user, without epmd; users come from a XEP-0227 file, once."""
    own = folder / 'ejabberd'
    shutil.rmtree(own, ignore_errors=True)
    for part in ('logs', 'spool'):
        (own / part).mkdir(parents=True)
    pem = own / 'cert.pem'
    pem.write_bytes(certificate(folder).read_bytes())
    (own / 'ejabberd.yml').write_text(_EJABBERD.format(port=28522, pem=pem, domain=DOMAIN))
    (own / 'ctl.cfg').write_text(_CTL)
    (own / 'users.xml').write_text(_piefxis(people))
    (own / '.erlang.cookie').write_text(secrets.token_hex(16))
    (own / '.erlang.cookie').chmod(0o400)
    for path in (own, *own.rglob('*')):
        shutil.chown(path, 'ejabberd', 'ejabberd')
    control = [
        'setpriv', '--reuid=ejabberd', '--regid=ejabberd', '--clear-groups', 'env', f'HOME={own}', 'ejabberdctl',
        '--config', str(own / 'ejabberd.yml'), '--ctl-config', str(own / 'ctl.cfg'), '--logs', str(own / 'logs'),
        '--spool', str(own / 'spool'),
    ]  # fmt: skip
    server = Server('ejabberd', 28522, [*control, 'foreground'], 'beam')
    server.start()
    try:
        subprocess.run([*control, 'import_piefxis', str(own / 'users.xml')], check=True, timeout=300)
    finally:
        server.stop()
    return server


def _piefxis(people: list[tuple[str, list[str]]]) -> str:
    parts = ["<server-data xmlns='urn:xmpp:pie:0'>", f"<host jid='{DOMAIN}'>"]
    for user, contacts in people:
        items = ''.join(f"<item jid='{contact}@{DOMAIN}' subscription='both'/>" for contact in contacts)
        roster = f"<query xmlns='jabber:iq:roster'>{items}</query>" if items else ''
        parts.append(f"<user name='{user}' password='{PASSWORD}'>{roster}</user>")
    return '\n'.join([*parts, '</host></server-data>'])


def processor_s(pid: int) -> float:
    """User + system seconds of a process, all threads, in nanoseconds: its CPU clock, clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def memory_kib(pid: int) -> int:
    """Resident memory."""
    return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 1024
