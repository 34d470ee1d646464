"""The user's own presence policy (IM-18, IM-20): share the availability or not, approve requests or be asked.

``urn:imp:presence-policy:0``, announced in disco#info of the own account. A client asks its own account:

    <iq type='get' id='1'><policy xmlns='urn:imp:presence-policy:0'/></iq>

    <iq type='result' id='1'><policy xmlns='urn:imp:presence-policy:0'>
      <availability-sharing in-force='off'>off</availability-sharing>
      <approval in-force='automatic'>default</approval>
    </policy></iq>

The content is what the user decided: ``availability-sharing`` on, off or default; ``approval`` automatic, ask or
default. ``default`` is what the administrator set. ``in-force`` is what it comes to now: sharing that is off for the
cluster stays off; for approval the user's word wins. The same element in an IQ set changes what it names and leaves the
rest:

    <iq type='set' id='2'><policy xmlns='urn:imp:presence-policy:0'><approval>ask</approval></policy></iq>

The result follows the commit. Other clients of the user that asked or set get the policy as an IQ set. While sharing is
off, others see the user as not signed in: no presence, no answer to probes, no directed presence, no last activity.
Messages are not affected. Contacts of the user are approved automatically also under ``ask``.

Cost on the path of presence: 0.2 microseconds for each broadcast and each look at somebody; nothing for messages.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from engine.features.registry import iq, own
from engine.filters import ask
from engine.services.presence_engine import policy, visibility
from engine.store import policies
from engine.store.policies import Policy
from engine.xmpp.stanza import error, escape, iq_result

if TYPE_CHECKING:
    from engine.services.presence_engine.engine import PresenceEngine
    from engine.services.presence_engine.person import Operation, Person
    from engine.services.xcp_router.router import XcpRouter
    from engine.session import Session
    from engine.xmpp.stanza import Stanza

NAMESPACE = 'urn:imp:presence-policy:0'
OWN = own(account=(NAMESPACE,))

SHARING: dict[str, bool | None] = {'default': None, 'on': True, 'off': False}
APPROVAL: dict[str, bool | None] = {'default': None, 'automatic': True, 'ask': False}
FIELDS = {'availability-sharing': ('sharing', SHARING), 'approval': ('automatic', APPROVAL)}
"""Element -> field of Policy, and what its content means."""


def _word(words: dict[str, bool | None], value: bool | None) -> str:
    return next(word for word, meaning in words.items() if meaning is value)


def element(engine: PresenceEngine, chosen: Policy) -> bytes:
    """The policy element."""
    in_force = {'sharing': visibility.shares(engine, chosen), 'automatic': visibility.approves(engine, chosen)}
    inside = ''.join(
        f"<{name} in-force='{_word(words, in_force[field])}'>{_word(words, getattr(chosen, field))}</{name}>"
        for name, (field, words) in FIELDS.items()
    )
    return f"<policy xmlns='{NAMESPACE}'>{inside}</policy>".encode()


@iq.on('get', NAMESPACE, 'policy', 'self')
def on_get(session: Session, stanza: Stanza, router: XcpRouter) -> bytes | None:
    """What the user decided, and what is in force."""
    engine = router.presence_engine()
    if engine is None:
        return _stopped(stanza)
    person = engine.person(session)
    session.policy_reader = True

    async def answer() -> None:
        session.send(iq_result(stanza, element(engine, person.policy)))

    _enqueue(engine, person, session, stanza, answer)
    return None


@iq.on('set', NAMESPACE, 'policy', 'self')
def on_set(session: Session, stanza: Stanza, router: XcpRouter) -> bytes | None:
    """Change what is named. The result is sent when it is stored and others see it."""
    engine = router.presence_engine()
    if engine is None:
        return _stopped(stanza)
    changes = _changes(stanza)
    if isinstance(changes, str):
        return error(stanza, 'bad-request', text=changes)
    person = engine.person(session)
    session.policy_reader = True

    async def change() -> None:
        async with engine.owners(person.user_id):
            new = person.policy._replace(**changes)
            if new != person.policy:
                await policies.save(engine.node.store, person.user_id, new)
                policy.take(engine, person, new)
                _push(engine, person, session)
        session.send(iq_result(stanza, element(engine, person.policy)))

    _enqueue(engine, person, session, stanza, change)
    return None


@iq.on('get', NAMESPACE, 'policy', 'bare', 'host')
@iq.on('set', NAMESPACE, 'policy', 'bare', 'host')
def on_other(session: Session, stanza: Stanza, router: XcpRouter) -> bytes:
    """Everybody decides only about themselves."""
    return error(stanza, 'forbidden', text='You can only read and change your own presence policy.')


def _changes(stanza: Stanza) -> dict[str, Any] | str:
    """Field -> new value, or what is wrong."""
    query = stanza.payload
    assert query is not None
    changes: dict[str, Any] = {}
    for child in query:
        name = child.tag.removeprefix(f'{{{NAMESPACE}}}')
        if name not in FIELDS:
            return f'A presence policy has no {name}. It has {" and ".join(FIELDS)}.'
        field, words = FIELDS[name]
        value = (child.text or '').strip()
        if value not in words:
            return f'The value of {name} is one of: {", ".join(words)}.'
        if field in changes:
            return f'{name} is there twice.'
        changes[field] = words[value]
    return changes or f'Name at least one of: {", ".join(FIELDS)}.'


def _push(engine: PresenceEngine, person: Person, changed_by: Session) -> None:
    body = element(engine, person.policy)
    for session in engine.router.sessions_of(person.bare):
        if session.policy_reader and session is not changed_by:
            ends = f"from='{escape(person.bare)}' to='{escape(session.jid)}'"
            head = f"<iq type='set' id='presence-policy-{secrets.token_hex(6)}' {ends}>"
            ask(session, person.bare, b'%b%b</iq>' % (head.encode(), body))


def _enqueue(engine: PresenceEngine, person: Person, session: Session, stanza: Stanza, operation: Operation) -> None:
    def failed(problem: Exception) -> None:
        session.send(error(stanza, 'internal-server-error', 'wait', str(problem)))

    engine.enqueue(person, session, operation, failed, len(stanza.raw))


def _stopped(stanza: Stanza) -> bytes:
    return error(stanza, 'service-unavailable', text='Cisco Presence Engine is not running.')
