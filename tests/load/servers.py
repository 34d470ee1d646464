"""The servers the benchmark compares: this engine, Prosody and ejabberd, each with the same users, on one core.

All of them: direct TLS and plain TCP on 127.0.0.1, one ECDSA P-256 certificate, passwords stored hashed, and the
same functions: rosters, disco, ping, offline messages, carbons, blocking, stream management (``bare`` peers:
without the last three); in mode ``archive`` a message archive too, in mode ``s2s`` server to server. Users ``u0``...
stand in a ring, each with the 25 before and the 25 behind as mutual contacts. Peers are those of Debian 12; what they
know is made once below the folder, and each start begins with a fresh copy of it.
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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.load import s2s
from tests.load.client import PASSWORD

DOMAIN = 'example.com'
CORE = '0'
FILES = 20_000
MODES = {'': 0, 'archive': 2, 's2s': 4}
"""What is on beyond the usual, and what is added to the ports."""
CONTACTS = 50
REACH = CONTACTS // 2


@dataclass
class Server:
    """One way to start a server. ``pids`` are the processes whose CPU and memory count."""

    name: str
    port: int
    """Of direct TLS; the one above it is plain TCP."""
    command: list[str]
    comm: str
    """Name of the process that does the work."""
    prepare: Callable[[], None] = lambda: None
    """Called before each start."""
    settle_s: float = 2.0
    """What it needs after the start until it is quiet."""
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    pid: int = 0
    pem: Path | None = None
    """The certificate of everyone."""

    @property
    def s2s_port(self) -> int:
        """For other servers, in mode ``s2s``."""
        return self.port + 20

    def start(self) -> None:
        """Start on core 0, wait until it listens. Raises RuntimeError when it does not."""
        for port in (self.port, self.port + 1):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(('127.0.0.1', port))  # somebody else's server there would be measured instead
                except OSError as error:
                    raise RuntimeError(f'port {port} cannot be used: {error.strerror}') from error
        self.prepare()
        command = ['taskset', '-c', CORE, 'prlimit', f'--nofile={FILES}:{FILES}', *self.command]
        log = subprocess.DEVNULL if not os.environ.get('LOAD_VERBOSE') else None
        self.process = subprocess.Popen(
            command, env=os.environ | self.environment, start_new_session=True, stdout=log, stderr=log
        )
        end = time.monotonic() + 60
        while True:
            try:
                for port in (self.port, self.port + 1):
                    socket.create_connection(('127.0.0.1', port), 1).close()
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


def contacts(number: int, count: int) -> list[int]:
    """Whom user ``number`` of ``count`` has in the contact list."""
    return [(number + step) % count for step in (*range(-REACH, 0), *range(1, REACH + 1))]


# ---- this engine


def engine(folder: Path, count: int, mode: str = '') -> Server:
    """The node ``imp1`` of the database of DATABASE_URL, with the users made in it."""
    environment = {
        'IMP_BIND': '127.0.0.1',
        'IMP_CLIENT_PORT': '28623',
        'IMP_DIRECT_TLS_PORT': '28622',
        'IMP_UNENCRYPTED_LOOPBACK': '1',
        'IMP_LOG_LEVEL': 'warning',
    }
    _fill_database(count)
    command = [sys.executable, 'manage.py', 'engine', '--node', 'imp1']

    def prepare() -> None:
        _prepare_database(mode)

    return Server('engine', 28622, command, 'python', prepare, 4.0, environment, pem=certificate(folder))


def _prepare_database(mode: str) -> None:
    from django.db import connection

    from engine.contract.services import CONNECTION_MANAGER, FEDERATION_MANAGER, XCP_ROUTER
    from impadmin.console.actions import SYSTEM, do_set_parameters
    from impadmin.system.models import Node, ServiceActivation
    from tests.fixtures import data

    node = Node.objects.get(name=data.NODE)
    if mode == 's2s':
        ServiceActivation.objects.get_or_create(node=node, service=FEDERATION_MANAGER)
        own = {'server_port': 28642, 'server_bind_address': '127.0.0.1', 'dns_servers': s2s.zone().address}
        do_set_parameters(SYSTEM, FEDERATION_MANAGER, node, own)
    else:
        ServiceActivation.objects.filter(node=node, service=FEDERATION_MANAGER).delete()
    data.publish_configuration()
    do_set_parameters(SYSTEM, CONNECTION_MANAGER, node, {'connections_per_ip': 20_000})
    do_set_parameters(SYSTEM, XCP_ROUTER, node, {'message_archive': mode == 'archive'})
    present = set(connection.introspection.table_names())
    with connection.cursor() as cursor:
        for table in ('offline_message', 'archive_message', 'archive_account'):
            if table in present:
                cursor.execute(f'TRUNCATE {table} CASCADE')
        cursor.execute('CHECKPOINT')
    connection.close()


def _fill_database(count: int) -> None:
    from django.db import connection

    from engine.contract.credentials import verifiers
    from impadmin.system.models import Node
    from impadmin.ucm.models import EndUser, RosterItem
    from tests.fixtures import data

    if not Node.objects.exists():
        data.install()
    node = Node.objects.get(name=data.NODE)
    EndUser.objects.exclude(home_node=node).update(home_node=node)
    Node.objects.exclude(pk=node.pk).delete()  # what tests.load.nodes leaves
    if (EndUser.objects.count(), RosterItem.objects.count()) == (count, count * CONTACTS):
        return
    stored = verifiers(PASSWORD)
    with connection.cursor() as cursor:
        cursor.execute('TRUNCATE end_user CASCADE')
    EndUser.objects.bulk_create(
        [
            EndUser(
                user_id=f'u{number}', last_name=f'u{number}', home_node=node, im_address=f'u{number}@{DOMAIN}',
                credentials=stored, contact_count=CONTACTS, watcher_count=CONTACTS,
            )
            for number in range(count)
        ],
        batch_size=2000,
    )  # fmt: skip
    ids = dict(EndUser.objects.values_list('user_id', 'pk'))
    with (
        connection.cursor() as cursor,
        cursor.copy(
            'COPY roster_item (user_id, jid, name, groups, subscription, ask, pending_in, approved, is_contact, state)'
            ' FROM STDIN'
        ) as copy,
    ):
        for number in range(count):
            for contact in contacts(number, count):
                copy.write(f'{ids[f"u{number}"]}\tu{contact}@{DOMAIN}\t\t{{}}\t3\tf\tf\tf\tt\t0\n')
    with connection.cursor() as cursor:
        cursor.execute('VACUUM ANALYZE')


def certificate(folder: Path) -> Path:
    """One certificate for everyone: made by the engine's own code."""
    from engine import tls

    return tls.certificate(folder / 'tls', 'bench', '127.0.0.1', [DOMAIN])


# ---- Prosody

_PROSODY = """
run_as_root = true; daemonize = false; network_backend = "epoll"; pidfile = "{folder}/pid"; data_path = "{folder}/data"
modules_enabled = {{ "roster", "saslauth", "disco", "presence", "message", "iq", "ping", "c2s", "offline"{modules} }}
modules_disabled = {{ {disabled} }}
{s2s}
interfaces = {{ "127.0.0.1" }}; c2s_ports = {{ {plain} }}; c2s_direct_tls_ports = {{ {port} }}
c2s_require_encryption = false; default_archive_policy = true; archive_expires_after = "never"
authentication = "internal_hashed"; storage = "internal"; log = {{ warn = "{folder}/log" }}
network_settings = {{ tcp_backlog = 1024 }}; ssl = {{ key = "{pem}", certificate = "{pem}" }}
{gc}
VirtualHost "{domain}"
"""
TUNED = 'gc = { mode = "incremental", threshold = 400, speed = 400 }'


_PROSODY_MODULES = {'': '', 'archive': ', "mam"', 's2s': ', "s2s", "dialback", "tls"'}
_PROSODY_S2S = """
s2s_ports = {{ {port} }}; s2s_require_encryption = false; s2s_secure_auth = false
unbound = {{ resolvconf = false; hoststxt = false; forward = "127.0.0.1@{dns}";
  options = {{ ["do-not-query-localhost:"] = "no"; ["module-config:"] = "iterator" }} }}
"""


def prosody(folder: Path, count: int, mode: str = '', bare: bool = False, tuned: bool = True) -> Server:
    """Accounts and rosters are written as data files."""
    name = 'Prosody tuned' if tuned else 'Prosody'
    port = (28422 if tuned else 28432) + MODES[mode]
    pem = certificate(folder)
    made = folder / f'prosody-{count}'
    if not (made / 'done').exists():
        shutil.rmtree(made, ignore_errors=True)
        store = made / 'data' / DOMAIN.replace('.', '%2e')
        for part in ('accounts', 'roster'):
            (store / part).mkdir(parents=True)
        account = _prosody_account()
        for number in range(count):
            items = ''.join(
                f'["u{contact}@{DOMAIN}"]={{["subscription"]="both";["groups"]={{}};}};'
                for contact in contacts(number, count)
            )
            head = '[false]={["version"]=1;["pending"]={};};'
            (store / 'accounts' / f'u{number}.dat').write_text(account)
            (store / 'roster' / f'u{number}.dat').write_text(f'return {{{head}{items}}};\n')
        (made / 'done').touch()
    own = folder / f'prosody-{port}'
    own.mkdir(exist_ok=True)
    file = own / 'prosody.cfg.lua'
    file.write_text(
        _PROSODY.format(
            folder=own, port=port, plain=port + 1, pem=pem, domain=DOMAIN, gc=TUNED if tuned else '',
            modules=('' if bare else ', "carbons", "blocklist", "smacks"') + _PROSODY_MODULES[mode],
            disabled='' if mode == 's2s' else '"s2s", "tls"',
            s2s=_PROSODY_S2S.format(port=port + 20, dns=s2s.zone().port) if mode == 's2s' else '',
        )
    )  # fmt: skip

    def prepare() -> None:
        shutil.rmtree(own / 'data', ignore_errors=True)
        shutil.copytree(made / 'data', own / 'data')

    return Server(name, port, ['prosody', '--config', str(file), '-F'], 'lua', prepare, pem=pem)


def _prosody_account() -> str:
    from engine.contract.credentials import verifiers

    salt, iterations, stored, server = verifiers(PASSWORD, salt=b'0123456789abcdef')['SCRAM-SHA-1']
    keys = {'stored_key': base64.b64decode(str(stored)).hex(), 'server_key': base64.b64decode(str(server)).hex()}
    text = ''.join(f'["{name}"]="{value}";' for name, value in keys.items())
    return f'return {{{text}["salt"]="{base64.b64decode(str(salt)).decode()}";["iteration_count"]={iterations};}};\n'


# ---- ejabberd

_EJABBERD = """
hosts: [{domain}]
loglevel: error
ca_file: "{pem}"
listen:
  - {{port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, tls: true, shaper: none, access: all,
      backlog: 1024, max_stanza_size: 262144}}
  - {{port: {plain}, ip: "127.0.0.1", module: ejabberd_c2s, shaper: none, access: all,
      backlog: 1024, max_stanza_size: 262144}}
{s2s}
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
{modules}
"""
_EJABBERD_MORE = """
  mod_carboncopy: {}
  mod_privacy: {}
  mod_blocking: {}
  mod_stream_mgmt: {}
"""
_EJABBERD_MODULES = {
    '': '',
    'archive': '  mod_mam: {default: always, assume_mam_usage: true}',
    's2s': '  mod_s2s_dialback: {}',
}
_EJABBERD_S2S = """
  - {{port: {port}, ip: "127.0.0.1", module: ejabberd_s2s_in, shaper: none, max_stanza_size: 262144, backlog: 1024}}
s2s_use_starttls: optional
"""
_CTL = """
ERLANG_NODE=bench@127.0.0.1
INET_DIST_INTERFACE=127.0.0.1
ERL_DIST_PORT=28529
"""
_CTL_S2S = """
ERL_OPTIONS='-eval inet_db:res_option(resolv_conf,""),inet_db:ins_ns({{127,0,0,1}},{dns}).'
"""
"""Erlang's own resolver asks only the scenario's name server. No blank: the script splits there."""


def ejabberd(folder: Path, count: int, mode: str = '', bare: bool = False) -> Server:
    """As its own user, without epmd; users come from a XEP-0227 file, once."""
    port = 28522 + MODES[mode]
    made = folder / f'ejabberd-{count}'
    if not (made / 'done').exists():
        shutil.rmtree(made, ignore_errors=True)
        first = _ejabberd(folder, made, 28522, '')
        _own(made)
        first.start()
        try:
            for start in range(0, count, _PIECE):
                file = made / f'users-{start}.xml'
                file.write_text(_piefxis(range(start, min(start + _PIECE, count)), count))
                control = [*first.command[:-1], 'import_piefxis', str(file)]
                subprocess.run(control, check=True, timeout=120, stdout=subprocess.DEVNULL)
                file.unlink()
        finally:
            first.stop()
        (made / 'done').touch()
    own = folder / f'ejabberd-{port}'
    modules = ('' if bare else _EJABBERD_MORE) + _EJABBERD_MODULES[mode]
    server = _ejabberd(folder, own, port, modules, mode == 's2s')

    def prepare() -> None:
        shutil.rmtree(own / 'spool', ignore_errors=True)
        shutil.copytree(made / 'spool', own / 'spool')
        shutil.copy(made / '.erlang.cookie', own / '.erlang.cookie')
        _own(own)

    server.prepare = prepare
    return server


def _ejabberd(folder: Path, own: Path, port: int, modules: str, federated: bool = False) -> Server:
    for part in ('logs', 'spool'):
        (own / part).mkdir(parents=True, exist_ok=True)
    pem = own / 'cert.pem'
    pem.write_bytes(certificate(folder).read_bytes())
    (own / 'ejabberd.yml').write_text(
        _EJABBERD.format(
            port=port, plain=port + 1, pem=pem, domain=DOMAIN, modules=modules,
            s2s=_EJABBERD_S2S.format(port=port + 20) if federated else '',
        )
    )  # fmt: skip
    (own / 'ctl.cfg').write_text(_CTL + (_CTL_S2S.format(dns=s2s.zone().port) if federated else ''))
    if not (own / '.erlang.cookie').exists():
        (own / '.erlang.cookie').write_text(secrets.token_hex(16))
        (own / '.erlang.cookie').chmod(0o400)
    control = [
        'setpriv', '--reuid=ejabberd', '--regid=ejabberd', '--clear-groups', 'env', f'HOME={own}', 'ejabberdctl',
        '--config', str(own / 'ejabberd.yml'), '--ctl-config', str(own / 'ctl.cfg'), '--logs', str(own / 'logs'),
        '--spool', str(own / 'spool'),
    ]  # fmt: skip
    return Server('ejabberd', port, [*control, 'foreground'], 'beam', pem=pem)


def _own(folder: Path) -> None:
    for path in (folder, *folder.rglob('*')):
        shutil.chown(path, 'ejabberd', 'ejabberd')


_PIECE = 1000
"""Users imported at once: ejabberdctl waits one minute."""


def _piefxis(numbers: Iterable[int], count: int) -> str:
    parts = ["<server-data xmlns='urn:xmpp:pie:0'>", f"<host jid='{DOMAIN}'>"]
    for number in numbers:
        items = ''.join(f"<item jid='u{other}@{DOMAIN}' subscription='both'/>" for other in contacts(number, count))
        roster = f"<query xmlns='jabber:iq:roster'>{items}</query>"
        parts.append(f"<user name='u{number}' password='{PASSWORD}'>{roster}</user>")
    return '\n'.join([*parts, '</host></server-data>'])


# ---- what they use


def processor_s(pid: int) -> float:
    """User + system seconds of a process, all threads, in nanoseconds: its CPU clock, clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def memory_kib(pid: int) -> int:
    """Resident memory."""
    return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 1024


def database_s() -> float:
    """Seconds of CPU of the engine's PostgreSQL processes."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'imp-engine' AND datname = current_database()"
        )
        return sum(processor_s(row[0]) for row in cursor.fetchall())
