"""Bugs of lanes, rains, commitments, phrases and lishi that the simulator must find by itself."""

from tests.bugs import HUNT, PACKET_MACHINE, PACKET_SHARD, REPLIES, SERVICE, WALLET_MACHINE, Mutant

DIVIDED = "cluster/gateway/dispatch/lane_fanout.py"
BURSTS, SENDING = "actors/packet/rain.py", "actors/wallet/sends.py"


RAINS = ("tests/simulation/test_rains.py",)


def bug(rule: str, file: str, old: str, new: str, tests: tuple[str, ...] = HUNT) -> Mutant:
    """Return one that is hunted, unless the simulator meets what it needs too seldom."""
    return Mutant(f"crowds: {rule}", file, old, new, tests)


HUNTED_CROWDS = [
    # Lanes.
    bug(
        "an expired lane forwards nobody",
        SERVICE,
        "            if reply != DRAINED:\n",
        "            if reply not in (DRAINED, Refused(Refusal.EXPIRED)):\n",
    ),
    bug(
        "an expired lane forwards nobody in a batch",
        DIVIDED,
        "if self.replies[place] == DRAINED]",
        "if self.replies[place] in (DRAINED, Refused(Refusal.EXPIRED))]",
    ),
    bug(
        "everybody begins with his own lane",
        SERVICE,
        "return lanes[home:] + lanes[:home]",
        "return lanes[home + 1 :] + lanes[: home + 1]",
    ),
    bug(
        "everybody in a batch begins with his own lane",
        DIVIDED,
        "home_lane(tenant, user, len(lanes)) for user in users",
        "place % len(lanes) for place, user in enumerate(users)",
    ),
    bug(
        "whoever finds his lane empty is asked for in the next",
        DIVIDED,
        "return not self._left or self._round == len(self._lanes)",
        "return not self._left or self._round > 0",
    ),
    bug(
        "the lanes sum to the total",
        SENDING,
        "part_of(send.total_fen, first, end, send.count)",
        "send.total_fen * (end - first) // send.count",
    ),
    bug("ranks are unique over all lanes", SENDING, "            rank_base=first,\n", ""),
    bug(
        "so many shares leave on one day, of all lanes together",
        SENDING,
        "day_count_max=part_of(special.day_count_max, lane, lane + 1, lanes),",
        "day_count_max=special.day_count_max,",
    ),
    bug("the day ends at midnight in China", "actors/packet/state.py", "(at_ms + CALENDAR_MS) // DAY_MS", "0"),
    bug(
        "201 means that every lane is open",
        SERVICE,
        "        for funding in (funded.funding, *funded.others):\n",
        "        for funding in (funded.funding, *funded.others[1:]):\n",
    ),
    # Rains, and what opens later.
    bug(
        "nothing opens before its time",
        REPLIES,
        "now_ms < packet.special.opens_at_ms:",
        "now_ms < packet.special.opens_at_ms - 400:",
    ),
    bug(
        "nobody takes a share of a burst before those before it have ended",
        PACKET_SHARD,
        "        for name in shell.machine.overdue_before(packet_id, now_ms):\n",
        "        for name in list[str]():\n",
    ),
    bug(
        "all bursts before a burst have ended, not only the last",
        BURSTS,
        "for burst in range(special.burst)]",
        "for burst in range(special.burst - 1, special.burst)]",
        RAINS,
    ),
    bug("nothing rolls into an ended burst", BURSTS, 'following.ended != "open" or ', ""),
    bug("nothing rolls in once shares are taken", BURSTS, " or following.rank_of:", ":", RAINS),
    bug(
        "a burst gets no more than its shares can hold",
        BURSTS,
        "min(packet.remaining_fen, terms.share_fen_max * terms.count - following.total_fen)",
        "packet.remaining_fen",
    ),
    bug(
        "what is left rolls once",
        PACKET_MACHINE,
        "back_fen = packet.remaining_fen - rolled_fen",
        "back_fen = packet.remaining_fen",
    ),
    # Commitments.
    bug(
        "a commitment is used once",
        WALLET_MACHINE,
        "            self._commitments.use(whole_id(event.packet_id))\n",
        "            pass\n",
    ),
    bug(
        "a late request does not make a used commitment usable",
        WALLET_MACHINE,
        "        if places[0].packet_id in self._state.fundings:\n            return COMMITMENT_NOT_FOUND\n",
        "",
    ),
    bug(
        "a commitment is used in time",
        "actors/wallet/commitments.py",
        " or now_ms >= found.expires_at_ms:",
        ":",
    ),
    bug(
        "a send with a commitment is found again by its key",
        "actors/wallet/idempotency.py",
        "        named += [event.packet_id] if known is None else []\n",
        "",
    ),
    bug(
        "the sender's nonce decides the shares",
        "actors/packet/dealer.py",
        "share_seed_of(seed, terms.sender_nonce)",
        "seed",
    ),
    # Phrases, lishi, notes.
    bug(
        "wrong phrases are counted durably",
        PACKET_MACHINE,
        "miss = PhraseMissed(packet_id, missed, now_ms) if missed else None",
        "miss = None",
    ),
    bug(
        "a lapse is journaled before it is told",
        "actors/wallet/host.py",
        "        for lapsed in book.due(command, now_ms):\n            shell.stage(lapsed)\n",
        "",
    ),
    bug(
        "who asks for a lishi is counted before",
        "cluster/gateway/service.py",
        "            counted = _expect(await self.ask_wallet(own, count), AskCounted)\n",
        "            counted = AskCounted(0)\n",
    ),
    bug(
        "an ask is counted durably",
        "actors/wallet/host.py",
        "return self._take(shell, counted, now_ms) or AskCounted(counted.at_ms)",
        "return AskCounted(counted.at_ms)",
    ),
    bug(
        "an accepted lishi closes and pays in one step",
        "actors/wallet/host.py",
        "        for event in accepted:\n            shell.stage(event)\n",
        "        shell.stage(accepted[1])\n",
    ),
    bug(
        "a note is kept as it was told",
        "actors/wallet/notes.py",
        "text=event.text, at_ms=event.at_ms, changes",
        "text=event.text, changes",
    ),
]
