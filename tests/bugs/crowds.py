"""Bugs of packets for a crowd, of commitments and of the claim chain."""

from tests.bugs import Mutant

MACHINE, STATE, BURSTS = (f"actors/packet/{name}.py" for name in ("machine", "state", "bursts"))
SENDING, COMMITMENTS = "actors/wallet/sending.py", "actors/wallet/commitments.py"
SERVICE, DIVIDED = "cluster/gateway/service.py", "cluster/gateway/divided.py"
CROWD_TESTS, COMMITMENT_TESTS = "tests/unit/test_crowds.py", "tests/unit/test_commitments.py"

CROWDS = [
    Mutant(
        "lanes: whoever is told drained is asked in every lane",
        SERVICE,
        "            if reply != DRAINED:\n                break\n",
        "            break\n",
        (CROWD_TESTS,),
    ),
    Mutant(
        "lanes: a crowd is asked in every lane",
        DIVIDED,
        "return not self._left or self._round == len(self._lanes)",
        "return not self._left or self._round == 1",
        (CROWD_TESTS,),
    ),
    Mutant(
        "lanes: only drained sends on",
        DIVIDED,
        "if self.replies[place] == DRAINED]",
        "if isinstance(self.replies[place], Refused)]",
        (CROWD_TESTS,),
    ),
    Mutant(
        "lanes: only drained sends one user on",
        SERVICE,
        "            if reply != DRAINED:\n",
        "            if type(reply) is Won:\n",
        (CROWD_TESTS,),
    ),
    Mutant(
        "lanes: everybody begins in his own lane, alone as in a crowd",
        SERVICE,
        "    home = user_hash(tenant, user) % len(lanes) if lanes else 0\n",
        "    home = 0\n",
        (CROWD_TESTS,),
    ),
    Mutant(
        "lanes: ranks are counted over all of them",
        STATE,
        "return Won(self.rank_base + rank,",
        "return Won(rank,",
        (CROWD_TESTS,),
    ),
    Mutant(
        "lanes: their parts sum to the total",
        SENDING,
        "        total_fen = send.total_fen * end // send.count - send.total_fen * first // send.count\n",
        "        total_fen = send.total_fen // lanes + lane\n",
        (CROWD_TESTS,),
    ),
    Mutant(
        "star: nobody takes a share before it opens",
        "actors/packet/replies.py",
        "now_ms < packet.special.opens_at_ms",
        "now_ms < packet.special.opens_at_ms - 1",
        ("tests/unit/test_entry.py", CROWD_TESTS),
    ),
    Mutant(
        "star: a day is counted from its own midnight",
        STATE,
        "(self.day_count if day == self.day else 0) + len(users)",
        "self.day_count + len(users)",
        (CROWD_TESTS,),
    ),
    Mutant(
        "star: the star gets no share of his own",
        "actors/packet/entry.py",
        "if special.excluded and special.excluded in users:",
        "if False:",
        (CROWD_TESTS,),
    ),
    Mutant(
        "rain: a burst waits for what those before it leave",
        MACHINE,
        "return [] if packet is None else overdue_before(",
        "return [] if packet is not None else overdue_before(",
        (CROWD_TESTS,),
    ),
    Mutant(
        "rain: no more rolls than the next shares can hold",
        BURSTS,
        "rolled_fen = min(packet.remaining_fen, terms.share_fen_max * terms.count - following.total_fen)",
        "rolled_fen = packet.remaining_fen",
        (CROWD_TESTS,),
    ),
    Mutant(
        "rain: equal bursts stay equal",
        BURSTS,
        "        rolled_fen -= rolled_fen % terms.count\n",
        "        pass\n",
        (CROWD_TESTS,),
    ),
    Mutant(
        "rain: shares follow from the whole total",
        STATE,
        "        self.total_fen += amount_fen\n        self.rolled_in_fen",
        "        self.rolled_in_fen",
        (CROWD_TESTS,),
    ),
    Mutant(
        "commitments: each is used once",
        COMMITMENTS,
        "        used = self._unused.pop(packet_id, None)\n",
        "        used = self._unused.get(packet_id)\n",
        (COMMITMENT_TESTS,),
    ),
    Mutant(
        "commitments: only by who asked for it",
        COMMITMENTS,
        "(found.tenant, found.user) != (tenant, user)",
        "found.tenant != tenant",
        (COMMITMENT_TESTS,),
    ),
    Mutant(
        "commitments: and in time",
        COMMITMENTS,
        " or now_ms >= found.expires_at_ms:",
        " or now_ms > found.expires_at_ms:",
        (COMMITMENT_TESTS,),
    ),
    Mutant(
        "commitments: a key that was used with one is used",
        "actors/wallet/machine.py",
        "            state.named.setdefault(event.named_by_key, []).append(event.packet_id)\n",
        "",
        (COMMITMENT_TESTS,),
    ),
    Mutant(
        "commitments: the nonce is mixed in",
        "actors/packet/dealing.py",
        "share_seed_of(self.seed(terms), terms.sender_nonce)",
        "share_seed_of(self.seed(terms), '')",
        (COMMITMENT_TESTS,),
    ),
    Mutant(
        "chain: begins with the commitment",
        STATE,
        "            self.chain = self.chain_start(self.terms)\n",
        "            self.chain = b''\n",
        (COMMITMENT_TESTS,),
    ),
    Mutant(
        "chain: every link holds the one before",
        "actors/packet/fairness.py",
        'b"".join((head, size, rows, ',
        'b"".join((head[:0], size, rows, ',
        (COMMITMENT_TESTS,),
    ),
    Mutant(
        "blocks: each has a seed of its own",
        "actors/packet/split.py",
        "block_seed_of(share_seed, number)",
        "share_seed",
        (COMMITMENT_TESTS,),
    ),
]
