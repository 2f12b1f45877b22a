"""Bugs in what commands and configurations promise: a clock that is moved, a sandbox that nobody asked for."""

from tests.bugs import Mutant

SCREEN, SYSTEM = "cluster/screen.py", "cluster/commands/system.py"
CONFIG, DEMO, REDIS, INSTANTS = (
    "cluster/config.py",
    "loadtest/demo.py",
    "cluster/journal/redis.py",
    "cluster/instants.py",
)

COMMANDS = [
    Mutant(
        "a demo moves no running system's clock",
        DEMO,
        "self._moves_clock = target.fresh or options.advance_clock",
        "self._moves_clock = True",
        ("tests/unit/test_demo_plan.py",),
    ),
    Mutant(
        "a foreign store is no sandbox by its configuration alone",
        CONFIG,
        "    if settings.sandbox:\n        raise ValueError(",
        "    if settings.sandbox:\n        return True\n        raise ValueError(",
        ("tests/unit/test_config.py",),
    ),
    Mutant(
        "the sandbox's clock is moved only so far",
        REDIS,
        "if tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return -1 end",
        "if tonumber(ARGV[1]) > tonumber(ARGV[2]) then return -1 end",
        ("tests/contract/test_journal.py",),
    ),
    Mutant(
        "every instant can be written",
        INSTANTS,
        "cycles, days = divmod(at_ms // DAY_MS, _CYCLE_DAYS)",
        "cycles, days = 0, at_ms // DAY_MS",
        ("tests/unit/test_instants.py",),
    ),
    Mutant(
        "brackets in a user's text are printed as they are",
        SCREEN,
        "width=width, markup=False, emoji=False)",
        "width=width, emoji=False)",
        ("tests/unit/test_terminal.py",),
    ),
    Mutant(
        "up prints tokens only if it is asked to",
        SYSTEM,
        "        if with_tokens:\n",
        "        if True:\n",
        ("tests/unit/test_cli.py",),
    ),
]
