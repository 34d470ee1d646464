"""The product's CLI commands about services and counters, by the guide's own words (``manage.py imp utils ...``)."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from engine.contract.services import BY_KEY, SERVICES, Service
from impadmin.console.cli import Failed, Session, phrase, written
from impadmin.system.models import Node, ServiceActivation

TIMEOUT_S = 5.0
WAIT_S = 90.0
_SAMPLE = re.compile(r'^imp_\w+\{(?P<labels>[^}]*)\} (?P<value>\S+)$')


@phrase('utils service list', '[--node NODE]', 'Every service with its state on every node')
def service_list(session: Session, words: Sequence[str]) -> None:
    """Name, node, state."""
    node = _node(session)
    if words:
        raise Failed(2, f'{words[0]}: nothing may follow but --node NODE.')
    found = session.call('GET', 'control-center/').data['services']
    session.show(
        [
            {'service': one['name'], 'node': one['node'], 'state': one['state']}
            for one in found
            if node is None or one['node'] == node.name
        ]
    )


def _verb(verb: str, page: Callable[[Service], str]) -> Callable[[Session, Sequence[str]], None]:
    def run(session: Session, words: Sequence[str]) -> None:
        node, service = one_node(session), _service(words)
        body = {'node': node.name, 'service': service.key}
        ordered(session, session.call('POST', f'{page(service)}/{verb}/', body))

    return run


def ordered(session: Session, answer: Any) -> None:
    """A node was given a command: what was said of it, and how it ends."""
    if session.query:
        written(session, answer)
        return
    session.out.write(answer.data['message'] + '\n')
    wait(session, answer.data['data']['command'])


def wait(session: Session, command: int) -> None:
    """Until the node has executed the command, as the product's CLI does."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        data = session.call('GET', 'control-center/', query={'command': command}).data
        if data['finished_at']:
            if data['error']:
                raise Failed(3, data['error'])
            session.out.write(f'{BY_KEY[data["service"]].name} on {data["node"]}: {data["outcome"]}\n')
            return
        time.sleep(0.2)
    raise Failed(3, f'The node has not executed the command within {WAIT_S:.0f} seconds; it will when it runs.')


def _control_center(service: Service) -> str:
    return 'control-center' if service.kind == 'feature' else 'control-center-network'


for _word in ('start', 'stop', 'restart'):
    phrase(f'utils service {_word}', 'SERVICE [--node NODE]', f'{_word.capitalize()} a service, e.g. Cisco XCP Router')(
        _verb(_word, _control_center)
    )


def _activation(on: bool) -> Callable[[Session, Sequence[str]], None]:
    def run(session: Session, words: Sequence[str]) -> None:
        node, service = one_node(session), _service(words)
        keys = set(ServiceActivation.objects.filter(node=node).values_list('service', flat=True))
        keys = keys | {service.key} if on else keys - {service.key}
        body = {'node': node.name, 'services': sorted(keys)}
        answer = session.call('POST', 'service-activation/save/', body)
        if session.query:
            written(session, answer)
        else:
            session.out.write(answer.data['message'] + '\n')

    return run


phrase('utils service activate', 'SERVICE [--node NODE]', 'Activate a feature service')(_activation(True))
phrase('utils service deactivate', 'SERVICE [--node NODE]', 'Deactivate a feature service')(_activation(False))


@phrase(
    'show perf query counter',
    'OBJECT [COUNTER] [--node NODE]',
    'Counters, e.g. "Cisco Presence Engine" ActiveJsmSessions',
)
def perf_query_counter(session: Session, words: Sequence[str]) -> None:
    """Counters of one object, or one counter, of every node (guide: show perf query counter)."""
    node, rest = _node(session), words
    if not 1 <= len(rest) <= 2:
        raise Failed(2, 'Give the object in quotation marks and, if you like, one counter.')
    nodes = [node] if node else list(Node.objects.order_by('name'))
    rows = [row for one in nodes for row in _counters(one) if row['object'] == rest[0]]
    known = sorted({row['counter'] for row in rows})
    if len(rest) == 2:
        rows = [row for row in rows if row['counter'] == rest[1]]
    if not rows:
        objects = sorted({row['object'] for one in nodes for row in _counters(one)})
        told = f'Its counters: {", ".join(known)}.' if known else f'Objects: {", ".join(objects)}.'
        raise Failed(4, f'There is no {"counter" if known else "object"} {rest[-1] if known else rest[0]}. {told}')
    session.show(rows)


def _counters(node: Node) -> list[dict[str, str]]:
    if not node.metrics_url.startswith('http://127.0.0.1:'):
        raise Failed(3, f'{node.name} has not reported where its counters are. Is it running?')
    try:
        with urllib.request.urlopen(node.metrics_url, timeout=TIMEOUT_S) as answer:  # noqa: S310
            text = answer.read().decode()
    except (OSError, urllib.error.URLError) as error:
        raise Failed(3, f'The counters of {node.name} cannot be read: {error}.') from None
    rows = []
    for line in text.splitlines():
        if (found := _SAMPLE.match(line)) is None:
            continue
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found['labels']))
        if 'counter' in labels:
            value = f'{float(found["value"]):g}' if '.' in found['value'] else found['value']
            rows.append({'node': node.name, 'object': labels['object'], 'counter': labels['counter'], 'value': value})
    return rows


def _node(session: Session) -> Node | None:
    """The node of --node, or None."""
    if not session.node:
        return None
    found = Node.objects.filter(name=session.node).first()
    if found is None:
        raise Failed(4, f'There is no node {session.node}.')
    return found


def one_node(session: Session) -> Node:
    """The node of --node, or the only one."""
    if found := _node(session):
        return found
    nodes = list(Node.objects.order_by('name'))
    if len(nodes) != 1:
        raise Failed(2, f'Which node? Add --node with one of: {", ".join(node.name for node in nodes)}.')
    return nodes[0]


def _service(words: Sequence[str]) -> Service:
    name = ' '.join(words)
    for service in SERVICES:
        if name.lower() in (service.name.lower(), service.key):
            return service
    known = ', '.join(service.name for service in SERVICES)
    raise Failed(4, f'There is no service {name!r}. Services: {known}.')
