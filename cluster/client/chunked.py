"""Chunked: the chunks of an HTTP/1.1 body, both ways."""


def chunk(content: bytes) -> bytes:
    """Frame content as one chunk."""
    return b"%x\r\n%b\r\n" % (len(content), content)


LAST_CHUNK = b"0\r\n\r\n"


class Dechunker:
    """Takes the chunks of an HTTP/1.1 body apart, wherever the network cut them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self.ended = False

    def feed(self, received: bytes) -> bytes:
        """Return the content that came with these bytes. Raises ValueError if they are not chunks."""
        received = self._buffer + received
        content: list[bytes] = []
        at = 0
        while not self.ended:
            if self._left > 2:  # content, then its line end
                part = received[at : at + self._left - 2]
                content.append(part)
                at += len(part)
                self._left -= len(part)
            if self._left:
                skipped = min(self._left, len(received) - at)
                at += skipped
                self._left -= skipped
                if self._left:
                    break
            line_end = received.find(b"\r\n", at)
            if line_end < 0:
                break
            size = int(received[at:line_end].partition(b";")[0], 16)
            at = line_end + 2
            self.ended = size == 0
            self._left = size + 2
        self._buffer = received[at:]
        return b"".join(content)
