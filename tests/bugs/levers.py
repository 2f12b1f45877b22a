"""Bugs of pausing and resuming."""

from tests.bugs import CORE_HOST, HUNT, PACKET_MACHINE, PACKET_SHARD, WALLET_MACHINE, Mutant

LEVERS, HTTP = ("tests/unit/test_levers.py",), ("tests/unit/test_levers_http.py",)
FLOW = "cluster/gateway/operator/switches.py"
PAUSED_GRAB = "        if self._state.levers and self._is_paused(packet_id):\n            barred = PAUSED\n"

PAUSES = [
    Mutant(
        "levers: a winner is answered while grabs are paused",
        PACKET_MACHINE,
        PAUSED_GRAB,
        "        if self._is_paused(packet_id):\n            return None, PAUSED\n",
        LEVERS,
    ),
    Mutant(
        "levers: a paused packet pauses no other",
        PACKET_MACHINE,
        "packet_lever(packet_id) in levers\n",
        "bool(levers)\n",
        LEVERS,
    ),
    Mutant(
        "levers: the lever of a packet ends with it",
        PACKET_MACHINE,
        "        if self._state.levers:\n            self._state.levers.pop(",
        "        if not self._state.levers:\n            self._state.levers.pop(",
        LEVERS,
    ),
    Mutant(
        "levers: a repeat is answered while sends are paused",
        WALLET_MACHINE,
        "        names = state.named.get(terms.named_by_key, [terms.named_by_key])\n",
        "        if SENDS in state.levers:\n            return PAUSED\n"
        "        names = state.named.get(terms.named_by_key, [terms.named_by_key])\n",
        LEVERS,
    ),
    Mutant(
        "levers: a pause is in the order of time",
        PACKET_MACHINE,
        "                self._apply_lever(event)\n                state.stamp_ms = max(state.stamp_ms, event.at_ms)\n",
        "                self._apply_lever(event)\n",
        LEVERS,
    ),
    Mutant(
        "levers: a late pause does not undo a resume",
        CORE_HOST,
        "        if (command.epoch, command.asked) != (shell.epoch, shell.levers_asked):\n",
        "        if command.epoch != shell.epoch:\n",
        LEVERS,
    ),
    Mutant(
        "levers: an overloaded stream can be paused",
        PACKET_SHARD,
        "if isinstance(command, SetLever | ReadLevers):",
        "if isinstance(command, ReadLevers):",
        LEVERS,
    ),
    Mutant(
        "levers: told as done only once every stream has it",
        FLOW,
        "        while left:\n            if loop.time()",
        "        while len(left) > 1:\n            if loop.time()",
        HTTP,
    ),
    Mutant(
        "levers: what is missing is told",
        FLOW,
        "if name not in told[stream].levers]",
        "if not told[stream]]",
        HTTP,
    ),
    Mutant("simulation: nobody takes a share while grabs are paused", PACKET_MACHINE, PAUSED_GRAB, "", HUNT),
    Mutant(
        "simulation: every wallet stream is told that sends are paused",
        FLOW,
        "await self._set(self._wallet_streams, SENDS, paused, by)",
        "await self._set(self._wallet_streams[:1], SENDS, paused, by)",
        HUNT,
    ),
    Mutant(
        "simulation: a lever is durable before it is told",
        FLOW,
        "if replies.get(stream) != [Done()]]",
        "if stream not in replies]",
        HUNT,
    ),
]
