"""Bugs in the life of a local system: who is meant by a process, what ends with whom, what a power cut leaves."""

from tests.bugs import Mutant

PROCESSES, LIFELINE, RUN_FOLDER = (
    "cluster/local/processes.py",
    "cluster/local/lifeline.py",
    "cluster/local/run_folder.py",
)
STORE_LOG, WATCHDOG = "cluster/local/store_log.py", "cluster/local/watchdog.py"
LOG_TESTS, SERVER_TESTS = "tests/unit/test_store_log.py", "tests/contract/test_store_log.py"

LOCAL = [
    Mutant(
        "a number that was given again is another process",
        PROCESSES,
        " and (self.boot, self.started) == (_boot(proc), found[1])",
        "",
        ("tests/unit/test_processes.py",),
    ),
    Mutant(
        "an owned system ends with its owner",
        LIFELINE,
        "        self.kept = KEEP in heard\n",
        "        self.kept = True\n",
        ("tests/unit/test_lifeline.py",),
    ),
    Mutant(
        "a part that is missing for a moment is only replaced",
        RUN_FOLDER,
        "None if path.exists() else now_s if since_s is None else since_s",
        "since_s if since_s is not None or path.exists() else now_s",
        ("tests/unit/test_run_folder.py",),
    ),
    Mutant(
        "what was on disk and is missing is never taken for a cut write",
        STORE_LOG,
        "    if end.cut and not lost:\n",
        "    if end.cut:\n",
        (LOG_TESTS,),
    ),
    Mutant(
        "zeros behind the last command are no cut write",
        STORE_LOG,
        "return End(whole, size, begun=after == 0, followed=_is_followed(content, at))",
        "return End(whole, size, followed=_is_followed(content, at))",
        (LOG_TESTS,),
    ),
    Mutant(
        "a transaction is whole with its last command",
        STORE_LOG,
        "        if not in_transaction:\n            whole = at\n",
        "        whole = at\n",
        (LOG_TESTS,),
    ),
    Mutant(
        "only a store that answers tells what is on its disk",
        WATCHDOG,
        "            if sync or store_answers(self.record.store_url):",
        "            if True:",
        (SERVER_TESTS,),
    ),
]
