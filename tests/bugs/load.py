"""Bugs of the load tests themselves: a load test that believes too easily is worse than none."""

from tests.bugs import Mutant

SCHEDULE, DESK = "loadtest/scenarios/schedule.py", "loadtest/scenarios/desk.py"
TALLY, FINALE, ANSWERS = "loadtest/scenarios/tally.py", "loadtest/scenarios/finale.py", "loadtest/scenarios/answers.py"
ASKS, JUDGES = "tests/unit/test_load_schedule.py", "tests/unit/test_load_tally.py"
RUNS = "tests/unit/test_load_run.py"

LOAD = [
    Mutant(
        "load: processes divide the schedule and ask nothing twice",
        SCHEDULE,
        "        if packet % parts == part:\n",
        "        if packet % parts <= part:\n",
        (ASKS,),
    ),
    Mutant(
        "load: arrivals do not wait for earlier answers",
        DESK,
        "            if arrival.route == SEND or arrival.packet in self.packet_ids:\n",
        "            if arrival.packet in (0, *self.packet_ids):\n",
        (ASKS,),
    ),
    Mutant(
        "load: latency counts from the scheduled instant",
        TALLY,
        "append((told.late_us + told.took_us) / 1_000)",
        "append(told.took_us / 1_000)",
        (JUDGES,),
    ),
    Mutant(
        "load: what was never asked was not achieved",
        TALLY,
        "        return self.on_time / max(self.scheduled, 1)\n",
        "        return self.on_time / max(self.on_time + self.late, 1)\n",
        (JUDGES,),
    ),
    Mutant(
        "load: a send refused after silence may have been funded",
        TALLY,
        "            if told.unknown:\n",
        "            self.unsure_sends.pop(told.packet, None)\n            if told.unknown:\n",
        (JUDGES,),
    ),
    Mutant(
        "load: wallets are held against what their owners were told",
        FINALE,
        "                self._wallets_wrong += 1\n",
        "                self._wallets_wrong += 0\n",
        (RUNS,),
    ),
    Mutant(
        "load: silence may hide a share",
        ANSWERS,
        "        return failed(arrival, NO_ANSWER, unknown=True, again=True)\n",
        "        return failed(arrival, NO_ANSWER, unknown=False, again=True)\n",
        (JUDGES,),
    ),
]
