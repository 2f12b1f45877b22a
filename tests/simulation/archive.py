"""Archive: the place of sealed files in memory, with the contract of `cluster.journal.archive.Archive`."""

from random import Random

from actors.kernel.errors import JournalUnavailable
from actors.kernel.ports import Position
from cluster.journal.archive import Archive
from cluster.journal.sealed_names import folder_of, last_in


class MemoryArchive(Archive):
    """Files by path; under a name there is everything, or nothing."""

    def __init__(self, random: Random) -> None:
        self.files: dict[str, bytes] = {}
        self.failing = 0.0
        """Probability that an operation is not answered; a write may have taken place."""
        self._random = random

    def write(self, path: str, content: bytes) -> None:
        if not self._fails() or self._random.random() < 0.5:
            self.files[path] = content
        self._answer(path)

    def create(self, path: str, content: bytes) -> bool:
        if path in self.files:
            return False
        self.write(path, content)
        return True

    def read(self, path: str) -> bytes | None:
        self._answer(path)
        return self.files.get(path)

    def names(self, stream: str, day: str) -> list[str]:
        folder = folder_of(stream, day)
        self._answer(folder)
        return [path for path in self.files if path.startswith(f"{folder}/")]

    def last_named(self) -> dict[str, Position]:
        return last_in(list(self.files))

    def delete(self, path: str) -> None:
        self._answer(path)
        self.files.pop(path, None)

    def _fails(self) -> bool:
        return self._random.random() < self.failing

    def _answer(self, path: str) -> None:
        if self._fails():
            raise JournalUnavailable(f"the archive did not answer for {path}, as the seed asked")
