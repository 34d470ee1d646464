"""Messages in a stream of bytes: TCP and TLS (RFC 3261 18.3, RFC 5626 3.5.1)."""

from __future__ import annotations

from typing import Final

from engine.sip.message import BODY_BYTES, HEAD_BYTES, BadMessage, Request, Response, body_length, read_head

PING: Final = b'\r\n\r\n'
PONG: Final = b'\r\n'


class Framing:
    """Cuts a stream. Only bytes that were not looked at before are searched for the end of the headers, so small pieces
    cost no more than one large one. After BadMessage the stream cannot be read on."""

    __slots__ = ('_buffer', '_message', '_most', '_need', '_searched', 'pings')

    def __init__(self, most: int = BODY_BYTES) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._message: Request | Response | None = None
        self._need = 0
        self._most = most
        self.pings = 0
        """Keep-alives (two line ends) that want an answer (one line end); the caller counts them down."""

    @property
    def idle(self) -> bool:
        """Whether nothing of a further message has come."""
        return not self._buffer and self._message is None

    def feed(self, data: bytes) -> list[Request | Response]:
        """The messages that are complete now. Raises BadMessage; what was complete before it is lost."""
        self._buffer += data
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def _next(self) -> Request | Response | None:
        buffer = self._buffer
        if self._message is None:
            self._skip()
            end = buffer.find(b'\r\n\r\n', max(0, self._searched - 3))
            if end < 0:
                self._searched = len(buffer)
            if end > HEAD_BYTES or (end < 0 and len(buffer) > HEAD_BYTES):
                raise BadMessage(513, f'The headers have more than {HEAD_BYTES} bytes')
            if end < 0:
                return None
            message = read_head(bytes(buffer[:end]))
            size = body_length(message)
            if size is None:
                raise BadMessage(400, 'Content-Length is missing')
            if size > self._most:
                raise BadMessage(413, f'The body has more than {self._most} bytes')
            del buffer[: end + 4]
            self._searched = 0
            self._message, self._need = message, size
        if len(buffer) < self._need:
            return None
        message, self._message = self._message, None
        message.body = bytes(buffer[: self._need])
        del buffer[: self._need]
        return message

    def _skip(self) -> None:
        """Line ends before a message: two are a ping. A single one may be the first half of it."""
        buffer = self._buffer
        count = 0
        while buffer.startswith(PONG, count):
            count += 2
        if count:
            self.pings += count // 4
            rest = count % 4 if len(buffer) == count else 0
            del buffer[: count - rest]
            self._searched = 0
