"""Bugs in what happens under too much load: whom it meets, and whom it must not."""

from tests.bugs import BATCHING, Mutant

MIDDLEWARE = "cluster/gateway/middleware"
ADMISSION, GATE, PULSE = (f"{MIDDLEWARE}/{name}.py" for name in ("overload_control", "admission", "queue_delay"))
LANES, INCOMING = "cluster/gateway/dispatch/fair_queue.py", f"{MIDDLEWARE}/body_reader.py"
BODIES, DOORS = "cluster/gateway/packet/grab_bodies.py", "cluster/gateway/routing.py"
DOORS_TESTS = "tests/unit/test_doors.py"
ADMISSION_TESTS, GATE_TESTS = "tests/unit/test_admission.py", "tests/unit/test_gate.py"
LANES_TESTS, BATCHING_TESTS = "tests/unit/test_lanes.py", "tests/unit/test_batching.py"

OVERLOAD = [
    Mutant(
        "overload: reads are refused before grabs",
        ADMISSION,
        "SEND, MANY, GRAB, READ, LAST = range(5)",
        "SEND, MANY, READ, GRAB, LAST = range(5)",
        (ADMISSION_TESTS,),
    ),
    Mutant(
        "overload: it is not always the same people",
        ADMISSION,
        "mixed = (user_hash ^ hour * 0x9E3779B1) & 0xFFFFFFFF",
        "mixed = user_hash",
        (ADMISSION_TESTS,),
    ),
    Mutant(
        "overload: whoever is refused together is not so for ever",
        ADMISSION,
        "    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & 0xFFFFFFFF\n"
        "    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & 0xFFFFFFFF\n",
        "",
        (ADMISSION_TESTS,),
    ),
    Mutant(
        "overload: refusing has a bound",
        ADMISSION,
        "if count and refusing * (100 - part) > useful * part:",
        "if False:",
        (ADMISSION_TESTS,),
    ),
    Mutant(
        "overload: what is worked off lets the level stay",
        ADMISSION,
        "if not self.calm and queueing_us * SHRINK > self._queueing_us * (SHRINK - 1):",
        "if not self.calm:",
        (ADMISSION_TESTS,),
    ),
    Mutant(
        "overload: levers are never refused to operators",
        GATE,
        "        if kind == EXEMPT and caller.operates:\n            return True\n",
        "",
        (DOORS_TESTS,),
    ),
    Mutant(
        "overload: the acting user's priority counts, not his gateway's",
        GATE,
        "            tenant, user = self._auth.acting(headers)\n",
        "            user, tenant, *_ = self._auth.claims(headers)\n",
        (GATE_TESTS,),
    ),
    Mutant(
        "overload: a greedy tenant is shed before others",
        ADMISSION,
        "            self._division.divide(self._level)\n",
        "",
        (ADMISSION_TESTS,),
    ),
    Mutant(
        "overload: what a modest tenant leaves is divided among the rest",
        "cluster/gateway/middleware/max_min_share.py",
        "            room -= min(part, demand)\n",
        "            room -= part\n",
        (ADMISSION_TESTS,),
    ),
    Mutant(
        "doors: who calls is known before a body is read",
        DOORS,
        'Door("POST", "/v1/rains", _USERS, SEND),',
        'Door("POST", "/v1/rains", _PUBLIC, SEND),',
        (DOORS_TESTS,),
    ),
    Mutant(
        "doors: half a body has a deadline",
        INCOMING,
        "asyncio.timeout_at(until_s)",
        "asyncio.timeout(None)",
        (DOORS_TESTS,),
    ),
    Mutant(
        "doors: parts are counted before they are decoded",
        INCOMING,
        "if parts > parts_max:",
        "if False:",
        (DOORS_TESTS,),
    ),
    Mutant(
        "doors: a batch is counted before its items are looked at",
        BODIES,
        "    _check_count(raw, items_max)\n",
        "",
        (DOORS_TESTS,),
    ),
    Mutant(
        "overload: packets take turns",
        LANES,
        "            turn = self._turn_size\n",
        "            turn = size_max\n",
        (LANES_TESTS, BATCHING_TESTS),
    ),
    Mutant(
        "overload: nobody overtakes before his packet",
        LANES,
        "parcel = parcels.popleft()",
        "parcel = parcels.pop()",
        (LANES_TESTS, BATCHING_TESTS),
    ),
    Mutant(
        "overload: a packet's part of a queue is bounded",
        BATCHING,
        "elif not self._lanes.lane_has_room(parcel.lane, parcel.size):",
        "elif False:",
        (BATCHING_TESTS,),
    ),
    Mutant(
        "overload: what is late is not sent",
        BATCHING,
        "elif now_s >= parcel.deadline_s:",
        "elif False:",
        (BATCHING_TESTS,),
    ),
    Mutant(
        "overload: who was sent is not told that nothing was done",
        BATCHING,
        "parcel.refuse(UNAVAILABLE if parcel.sent else OVERLOADED)",
        "parcel.refuse(OVERLOADED)",
        (BATCHING_TESTS,),
    ),
    Mutant(
        "overload: a slow store is no overload",
        BATCHING,
        "if parcel.calls_before < calls:",
        "if calls:",
        (BATCHING_TESTS,),
    ),
    Mutant(
        "overload: a late event loop is queueing",
        PULSE,
        "        self._late_us += late_us\n",
        "",
        (GATE_TESTS,),
    ),
]
