"""A webhook through the real console and the real worker to a real receiver."""

from __future__ import annotations

import json
from typing import Any

from tests.areas.test_webhooks import DOMAINS, Receiver, hook, receiver, signed
from tests.fixtures.processes import wait_until

__all__ = ['hook', 'receiver']


def test_a_change_arrives_signed_through_a_real_worker(hook: Any, receiver: Receiver, rest: Any, worker: Any) -> None:
    call = rest('administrator')
    made = call('POST', DOMAINS, {'name': 'one.example'}).json()
    wait_until(lambda: any(b'one.example' in body for _, body in receiver.got), 'the event arrives')
    headers, body = next(got for got in receiver.got if b'one.example' in got[1])
    event = json.loads(body)
    assert (event['event'], event['data']['after']['name']) == ('change', 'one.example')
    assert event['data']['object_id'] == str(made['id'])
    assert headers['imp-delivery'] == event['id']
    assert signed(hook['secret'], headers, body)
    assert not signed('whs_other', headers, body)
    assert not signed(hook['secret'], headers, body + b' ')
