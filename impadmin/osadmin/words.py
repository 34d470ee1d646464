"""The product's CLI commands about certificates (``manage.py imp set cert ...``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.contract.certificates import IDENTITIES, STORES
from impadmin.console.cli import Failed, Session, phrase, written
from impadmin.serviceability.words import one_node

PAGE = 'certificates/'
COLUMNS = ('name', 'common_name', 'key_type', 'issuer', 'ends_at', 'description')


def _rows(session: Session, **query: str) -> list[dict[str, Any]]:
    return list(session.call('GET', PAGE, query={'limit': '1000', **query}).data['results'])


def _lists(kind: str) -> Callable[[Session, Sequence[str]], None]:
    def run(session: Session, words: Sequence[str]) -> None:
        if words:
            raise Failed(2, f'{words[0]}: nothing may follow.')
        session.show(_rows(session, kind=kind), () if session.form == 'json' else COLUMNS)

    return run


def _shows(kind: str) -> Callable[[Session, Sequence[str]], None]:
    def run(session: Session, words: Sequence[str]) -> None:
        row = _one(session, words, kind)
        if session.form == 'json':
            session.show(row)
        else:
            session.out.write(row['pem'])

    return run


phrase('show cert list own', '', 'Certificates that nodes show')(_lists('identity'))
phrase('show cert list trust', '', 'Certificates that nodes trust')(_lists('trust'))
phrase('show csr list own', '', 'Signing requests')(_lists('csr'))
phrase('show cert own', 'NAME [--node NODE]', 'A certificate in PEM form, e.g. cup-xmpp')(_shows('identity'))
phrase('show csr own', 'NAME [--node NODE]', 'A signing request in PEM form')(_shows('csr'))


@phrase('set cert regen', 'NAME [--node NODE]', 'Make a self-signed certificate anew, with every hosted domain')
def regenerate(session: Session, words: Sequence[str]) -> None:
    """The certificate there is, or a first one of this name."""
    found = [row for row in _rows(session, kind='identity', name=_name(words)) if _is_of(session, row)]
    path = f'{PAGE}{found[0]["id"]}/regenerate/' if found else f'{PAGE}generate/'
    body = {} if found else {'purpose': words[0], 'distribution': one_node(session).name}
    _say(session, session.call('POST', path, body))


@phrase('set csr gen', 'NAME [--node NODE]', 'Make a signing request; print it with "show csr own NAME"')
def request(session: Session, words: Sequence[str]) -> None:
    """A request for one node."""
    _say(
        session, session.call('POST', f'{PAGE}csr/', {'purpose': _name(words), 'distribution': one_node(session).name})
    )


def _imports(known: Sequence[str]) -> Callable[[Session, Sequence[str]], None]:
    def run(session: Session, words: Sequence[str]) -> None:
        if len(words) not in (2, 3):
            raise Failed(2, 'Give the name and the file.')
        body = {'purpose': _name(words[:1], known), **({'preceding': words[2]} if len(words) == 3 else {})}
        try:
            with Path(words[1]).open('rb') as file:
                _say(session, session.call('POST', f'{PAGE}upload/', body, files={'file': file}))
        except OSError as error:
            raise Failed(2, f'{words[1]} cannot be read: {error.strerror}.') from None

    return run


phrase('set cert import own', 'NAME FILE', 'Upload what an authority has signed')(_imports(IDENTITIES))
phrase('set cert import trust', 'STORE FILE [PRECEDING]', 'Upload an authority, e.g. to cup-xmpp-trust')(
    _imports(STORES)
)


@phrase(
    'set cert delete', 'NAME [COMMON_NAME] [--node NODE]', 'Delete a certificate or, of a trust store, one by its name'
)
def delete(session: Session, words: Sequence[str]) -> None:
    """By common name where there are several."""
    name = _name(words[:1], (*IDENTITIES, *STORES))
    found = [
        row
        for row in _rows(session, name=name)
        if row['kind'] != 'csr' and (row['common_name'] == ' '.join(words[1:]) if words[1:] else _is_of(session, row))
    ]
    if len(found) != 1:
        raise Failed(4, f'{len(found)} certificates of this name. Give the common name or --node.')
    answer = session.call('POST', f'{PAGE}delete-selected/', {'ids': [found[0]['id']]})
    _say(session, answer, f'{name}: deleted')


def _name(words: Sequence[str], known: Sequence[str] = IDENTITIES) -> str:
    if len(words) != 1 or words[0] not in known:
        raise Failed(2, f'Give one of: {", ".join(known)}.')
    return words[0]


def _is_of(session: Session, row: dict[str, Any]) -> bool:
    return not session.node or row['node'] in (None, '', session.node)


def _one(session: Session, words: Sequence[str], kind: str) -> dict[str, Any]:
    found = [row for row in _rows(session, kind=kind, name=_name(words)) if _is_of(session, row)]
    if len(found) != 1:
        raise Failed(4, f'There is none of {words[0]}.' if not found else 'Which node? Add --node.')
    return found[0]


def _say(session: Session, answer: Any, text: str = '') -> None:
    if session.query:
        written(session, answer)
    else:
        session.out.write(f'{text or answer.data["message"]}\n')
