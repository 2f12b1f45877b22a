"""Operating failures, named for who acts next.

A business outcome (drained, expired, no money) is a value, never one of these; our own bug is an `assert`.
"""


class OperatingFailure(Exception):
    """Something outside the machines failed; no caller's request was decided against it."""


class FencedOut(OperatingFailure):
    """A later activation owns the stream. Look the shard up again and repeat with the same identity."""


class JournalUnavailable(OperatingFailure):
    """The store did not answer, so the outcome is unknown. Repeat with the same identity."""


class JournalFull(OperatingFailure):
    """The store definitely refused the append (out of memory). Nothing happened; the same bytes may be sent again."""


class JournalCorrupt(OperatingFailure):
    """The journal does not chain. Nobody may write to it until an operator has looked; the message names the entry."""


class NotHere(OperatingFailure):
    """This host does not own the stream. Look the placement up again."""


class WrongKeys(OperatingFailure):
    """The platform's keys at hand are not this system's: nobody may decide with them. The message says which."""
