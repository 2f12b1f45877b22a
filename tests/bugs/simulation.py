"""Bugs that the simulator must find by itself: one for each rule of design.md, sections 3 to 5."""

from tests.bugs import (
    BOOK,
    CORE_HOST,
    CORE_SHELL,
    HUNT,
    MEMORY,
    OWNER,
    PACKET_MACHINE,
    PACKET_SHARD,
    REPLIES,
    SERVICE,
    WALLET_MACHINE,
    Mutant,
)

DIRECTORY, SNAPSHOTS, WALLET_KEYS = (
    "cluster/runtime/directory.py",
    "cluster/journal/fold.py",
    "actors/wallet/idempotency.py",
)


def bug(rule: str, file: str, old: str, new: str) -> Mutant:
    """Return one that is hunted."""
    return Mutant(f"simulation: {rule}", file, old, new, HUNT)


SIMULATION = [
    # The shell: decide, apply, stage; durable first, then the answer.
    bug(
        "nothing happens between decide and apply",
        CORE_SHELL,
        "        self.machine.apply(event)\n        self._open.events",
        "        asyncio.get_running_loop().call_soon(self.machine.apply, event)\n        self._open.events",
    ),
    bug(
        "a grab is applied before the next one is decided",
        PACKET_SHARD,
        "            shell.stage(event, len(users))\n",
        "            __import__('asyncio').get_running_loop().call_soon(shell.stage, event, len(users))\n",
    ),
    bug(
        "a reply comes after its append",
        CORE_SHELL,
        "                version = self.machine.version\n",
        "                version = self.machine.version\n                commit.finish()\n",
    ),
    bug("an answer needs a contact with the store", CORE_SHELL, "await self._journal.confirm()", "pass"),
    bug(
        "a replay waits until the share is durable",
        PACKET_SHARD,
        "return reply, not shell.machine.is_final(",
        "return reply, not isinstance(reply, Takings) and not shell.machine.is_final(",
    ),
    bug(
        "a refusal waits until it is true",
        PACKET_SHARD,
        "return reply, not shell.machine.is_final(",
        "return reply, not isinstance(reply, Refused) and not shell.machine.is_final(",
    ),
    bug(
        "a waiter does not survive its epoch",
        CORE_SHELL,
        "            commit.finish(failure)\n            self._end(failure)\n",
        "            commit.finish()\n            self._end(failure)\n",
    ),
    bug(
        "what waits behind an entry that failed fails too",
        CORE_SHELL,
        "        self._open.finish(failure)\n",
        "        self._open.finish()\n",
    ),
    bug("a poisoned shell is never used again", CORE_HOST, "if shell is not None and not shell.dead:", "if shell:"),
    bug(
        "a full store gets the same entry again",
        CORE_SHELL,
        "                await asyncio.sleep(FULL_PAUSE_S)\n",
        "                return\n",
    ),
    bug(
        "shard time never goes back",
        CORE_SHELL,
        "return max(self._now_ms(), self.machine.stamp_ms)",
        "return self._now_ms()",
    ),
    # Epochs, fences, the store.
    bug(
        "the journal refuses an older epoch",
        MEMORY,
        "        if position <= self.last:\n            return False\n",
        "",
    ),
    bug(
        "an append that the client library repeats is refused",
        MEMORY,
        "if position <= self.last:",
        "if position < self.last:",
    ),
    bug(
        "an activation takes its epoch itself",
        MEMORY,
        "fence = Position(stored.last.epoch + 1, 0)",
        "fence = Position(1 + len(self._activated), 0)",
    ),
    bug("a confirmation asks whose the stream is", OWNER, "if last is None or last not in ours:", "if last is None:"),
    bug(
        "the tail is read behind the fence",
        OWNER,
        "        before, fence = await self._fence(host)\n",
        "        seen = [one async for one in self._elements.read(self.stream, None, None)]\n"
        "        before, fence = await self._fence(host)\n"
        "        before = seen[-1][0] if seen else before\n",
    ),
    bug(
        "a snapshot is never of memory that runs ahead",
        SNAPSHOTS,
        "        last = element\n",
        "        last = last or element\n",
    ),
    bug(
        "a restored stream still keeps the time of its packets",
        PACKET_MACHINE,
        'for packet_id, packet in packets if packet.ended == "open"',
        'for packet_id, packet in packets if packet.ended != "open"',
    ),
    bug(
        "a trim stops at the snapshot",
        MEMORY,
        "count = 0 if self.held else bisect_right(stored.elements, through, key=_position)",
        "count = len(stored.elements)",
    ),
    # Actors: a quiet packet, an end, a key, a packet that left memory.
    bug(
        "a quiet stream has a host that keeps its time",
        CORE_HOST,
        "[self._tick(stream) for stream in self._streams]",
        "[self._tick(stream) for stream in self._shells]",
    ),
    bug(
        "an end follows from an event, not from the clock",
        PACKET_MACHINE,
        "            return self._expired(packet, now_ms) if ends else None, replies\n",
        "            return None, replies\n",
    ),
    bug(
        "a host that starts learns of time that passed",
        CORE_HOST,
        "        self._offset_ms = max(self._offset_ms, await self._journals.clock_offset_ms())\n",
        "",
    ),
    bug(
        "a key is remembered for its time",
        WALLET_KEYS,
        "    while event.at_ms - (oldest := next(iter(fundings.values()))).at_ms >= keep_ms:\n",
        "    while len(fundings) > 1 and _has_arrived(state, oldest := next(iter(fundings.values()))):\n",
    ),
    bug(
        "a packet leaves memory settled",
        "actors/packet/state.py",
        'return self.ended != "open" and self.unsettled == 0',
        'return self.ended != "open" and self.unsettled <= 1',
    ),
    bug(
        "a record is kept before the packet leaves memory",
        PACKET_SHARD,
        "        await self._journals.keep_records(shell.stream, shell.machine.version, records)\n",
        "",
    ),
    bug(
        "a packet that left memory is not opened again",
        PACKET_MACHINE,
        "        packet = self._find(funding.packet_id)\n",
        "        packet = self._state.packets.get(funding.packet_id)\n",
    ),
    # Money: transfers between books.
    bug("an opening delivered late opens nothing", PACKET_MACHINE, "if received.has(funding.number):", "if False:"),
    bug(
        "a second funding of one packet goes back",
        PACKET_MACHINE,
        "        if packet is not None or is_of_second_rain(funding, self._find):\n",
        "        if False:\n",
    ),
    bug(
        "money that comes after its packet's time is not refused",
        PACKET_SHARD,
        '        shell.stage(answer)\n        if funding.kind == "photo":\n',
        "        if shell.now_ms() >= funding.expires_at_ms:\n            return EXPIRED  # type: ignore\n"
        '        shell.stage(answer)\n        if funding.kind == "photo":\n',
    ),
    bug(
        "money in transit is never refused",
        WALLET_MACHINE,
        "        if not fresh:\n            return None\n",
        "        if not fresh or self._account(fresh[0].tenant, fresh[0].user) is None:\n            return None\n",
    ),
    bug(
        "a range is settled once",
        WALLET_MACHINE,
        "[run for run in receive.runs if run.number > received.number]",
        "list(receive.runs)",
    ),
    bug(
        "no number is left out",
        "actors/packet/views.py",
        "        receive = Receive(stream, sent.settled_number, sent.settled_fen, [], runs)\n",
        "        receive = Receive(stream, sent.settled_number, sent.settled_fen, [], runs[::2])\n",
    ),
    bug("what came ahead is remembered", BOOK, "            self.ahead[number] = amount_fen\n", ""),
    bug(
        "settlement delivers only what is durable",
        CORE_HOST,
        "            try:\n                await shell.commit().durable()\n            except OperatingFailure:\n"
        "                continue\n",
        "",
    ),
    bug(
        "settlement acknowledges only what was received",
        "actors/settlement/plan.py",
        "Acknowledge(destination, answer.number)",
        "Acknowledge(destination, answer.number + 1)",
    ),
    bug(
        "a watermark is told when it is durable",
        CORE_HOST,
        "            if wait:\n                await shell.commit().durable()\n",
        "            if wait and not any(type(reply) is Watermark for reply in replies):\n"
        "                await shell.commit().durable()\n",
    ),
    bug(
        "the refund is what is left",
        PACKET_MACHINE,
        'back_to_sender("refund", event.number, packet.terms, event.amount_fen, event.at_ms)',
        'back_to_sender("refund", event.number, packet.terms, packet.total_fen, event.at_ms)',
    ),
    bug("one share a user", REPLIES, "rank = packet.rank_of.get(user)", "rank = None"),
    bug(
        "a balance is never negative",
        WALLET_MACHINE,
        "if account is None or account.available_fen < send.total_fen:",
        "if account is None:",
    ),
    bug(
        "refusing everybody is not enough",
        PACKET_MACHINE,
        "        # From here the grabs of fresh users must succeed while shares are left.\n",
        "        return None, OVERLOADED\n",
    ),
    # The gateway.
    bug("before a 404 the wallet stream is asked", SERVICE, "        if not lost:\n", "        if True:\n"),
    bug(
        "a 404 is never cached",
        SERVICE,
        "        [reply] = await self._batching.post(stream, commands)\n"
        "        if type(reply) is Won:\n            return reply\n"
        "        [reply] = await self._complete(stream, commands, [reply])\n",
        "        lost = self.__dict__.setdefault('lost', {})\n"
        "        if packet_id in lost:\n            return NOT_FOUND\n"
        "        [reply] = await self._batching.post(stream, commands)\n"
        "        if type(reply) is Won:\n            return reply\n"
        "        [reply] = await self._complete(stream, commands, [reply])\n"
        "        if reply == NOT_FOUND:\n            lost[packet_id] = reply\n",
    ),
    bug(
        "a gateway that remembers a packet's end asks about its winners",
        "cluster/gateway/dispatch/ended_packet_cache.py",
        "        return place < len(winners) and winners[place] == wanted\n",
        "        return False\n",
    ),
    bug("201 means open", SERVICE, "        await self.open(funded)\n", ""),
    bug(
        "whoever met a dead host looks it up again",
        DIRECTORY,
        "            self._handles.pop(host, None)\n",
        "",
    ),
    bug(
        "a packet of another tenant does not exist",
        PACKET_MACHINE,
        "if packet is None or packet.tenant != tenant:\n            return None, NOT_FOUND\n",
        "if packet is None:\n            return None, NOT_FOUND\n",
    ),
]
