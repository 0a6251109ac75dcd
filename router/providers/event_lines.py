"""Server-sent events as they arrive in blocks of bytes."""

from __future__ import annotations

FIELD = b"data:"
DONE = b"[DONE]"


class EventLines:
    """Cuts blocks into the data of events, up to ``[DONE]``; then it has ``ended``."""

    __slots__ = ("_rest", "ended")

    def __init__(self) -> None:
        self._rest = b""
        self.ended = False

    def feed(self, block: bytes) -> list[bytes]:
        """Give the data lines that are whole by now; what is no data is passed over."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        found = []
        for line in lines:
            bare = line.strip()
            if not bare.startswith(FIELD):
                continue
            data = bare[len(FIELD) :].strip()
            if data == DONE:
                self.ended = True
                break
            if data:
                found.append(data)
        return found
