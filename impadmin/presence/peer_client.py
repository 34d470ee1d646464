"""HTTPS to the console of a peer: only to the address that an administrator entered, only when it shows the certificate
whose fingerprint he confirmed, without redirects, within a time and a size."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
from contextlib import suppress
from threading import Timer
from typing import TypeVar

import msgspec
from django.utils.translation import gettext_noop

from engine.contract.messages import LONGEST
from impadmin.console import sealed
from impadmin.console.jobs import message
from impadmin.presence.models import InterclusterPeer

PURPOSE = 'intercluster peer'
PATH = '/api/v1/local-cluster/'
CONNECT_S = 5.0
ANSWER_S = 60.0
LARGEST = 64 * 1024 * 1024
"""Bytes of an answer."""
Answer = TypeVar('Answer')


class PeerProblem(Exception):
    """Why a peer could not be asked, or what is wrong with its answer: packed by ``console.jobs.message``."""

    def __init__(self, text: str, **values: object) -> None:
        super().__init__(text)
        self.text = message(text, **values)


def written(digest: str) -> str:
    """A fingerprint as people compare it: pairs of digits."""
    return ':'.join(digest[at : at + 2] for at in range(0, len(digest), 2)).upper()


def _connect(address: str, port: int) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # its fingerprint is compared instead, before anything is sent
    context.verify_mode = ssl.CERT_NONE
    try:
        plain = socket.create_connection((address, port), CONNECT_S)
    except OSError as error:
        raise PeerProblem(gettext_noop('The peer cannot be reached: %(reason)s'), reason=_reason(error)) from error
    try:
        return context.wrap_socket(plain, server_hostname=address)
    except OSError as error:
        plain.close()
        text = gettext_noop('There is no TLS connection with the peer: %(reason)s')
        raise PeerProblem(text, reason=_reason(error)) from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__)[: LONGEST // 2]


def _shown(connection: ssl.SSLSocket) -> str:
    return written(hashlib.sha256(connection.getpeercert(binary_form=True) or b'').hexdigest())


def fingerprint(address: str, port: int) -> str:
    """SHA-256 of the certificate that answers there. Raises PeerProblem."""
    with _connect(address, port) as connection:
        return _shown(connection)


def get(peer: InterclusterPeer, query: str, kind: type[Answer], patience_s: float = ANSWER_S) -> Answer:
    """What the peer says, within a time. Raises PeerProblem."""
    token = (sealed.unseal(PURPOSE, peer.sealed) or b'').decode()
    if not token:
        raise PeerProblem(gettext_noop('The token cannot be read any more. Enter it again.'))
    with _connect(peer.address, peer.port) as connection:
        shown = _shown(connection)
        if not hmac.compare_digest(shown, peer.fingerprint):
            text = gettext_noop('The peer shows another certificate: %(shown)s. Compare it, then enter it here.')
            raise PeerProblem(text, shown=shown)
        status, body = _ask(peer, connection, query, token, patience_s)
    if status in (401, 403):
        raise PeerProblem(gettext_noop('The peer does not accept the token (HTTP %(status)s).'), status=status)
    if status != 200:
        raise PeerProblem(gettext_noop('The peer answers HTTP %(status)s.'), status=status)
    try:
        if b'\\u0000' in body:
            raise msgspec.DecodeError('NUL')  # no database keeps it
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        text = gettext_noop('The answer of the peer cannot be read: %(reason)s')
        raise PeerProblem(text, reason=str(error)[: LONGEST // 2]) from error


def _ask(
    peer: InterclusterPeer, connection: ssl.SSLSocket, query: str, token: str, patience_s: float
) -> tuple[int, bytes]:
    connection.settimeout(patience_s)
    end = Timer(patience_s, _hang_up, (connection,))  # a byte now and then is no answer, but no silence either
    end.start()
    talk = http.client.HTTPConnection(peer.address, peer.port)
    talk.sock = connection
    try:
        talk.request('GET', PATH + query, headers={'Authorization': f'Bearer {token}', 'Accept': 'application/json'})
        answer = talk.getresponse()
        body = bytearray()
        while piece := answer.read(65536):
            body += piece
            if len(body) > LARGEST:
                raise PeerProblem(gettext_noop('The answer of the peer is too long.'))
        return answer.status, bytes(body)
    except (OSError, http.client.HTTPException) as error:
        reason = _reason(error) if isinstance(error, OSError) else type(error).__name__
        raise PeerProblem(gettext_noop('The peer did not answer: %(reason)s'), reason=reason) from error
    finally:
        end.cancel()


def _hang_up(connection: ssl.SSLSocket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
