"""Processes: how a test starts a child of its own."""

import signal

from cluster.local.processes import end_with_parent


def as_child() -> None:
    """Between fork and exec (`preexec_fn`): take SIGINT as everybody does, and end with the test run, also if killed.

    Who starts pytest may ignore SIGINT (`nohup`, `&` in a script, many CI runners), and children inherit that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
