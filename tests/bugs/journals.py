"""Bugs in the life of a journal: passivation, snapshots, sealing, and what reads sealed parts."""

from tests.bugs import CORE_HOST, CORE_SHELL, MEMORY, PACKET_SHARD, Mutant

PASSIVATION = "tests/unit/test_passivation.py"
SEALING_TESTS, VERIFY_TESTS = "tests/contract/test_sealing.py", "tests/contract/test_verify.py"
OFFLINE_TESTS, ARCHIVE_TESTS = "tests/contract/test_offline.py", "tests/unit/test_archive.py"
SEALING, ARCHIVE, TENDING = "cluster/sealing.py", "cluster/journal/archive.py", "cluster/tending.py"
READING, VERIFY, OFFLINE_AUDIT, STATEMENT, TAILS = (
    "cluster/offline/reading.py",
    "cluster/offline/verify.py",
    "cluster/offline/audit.py",
    "cluster/offline/statement.py",
    "cluster/offline/tails.py",
)

JOURNALS = [
    Mutant(
        "a packet leaves memory only once its payouts are settled",
        "actors/packet/state.py",
        'return self.ended != "open" and self.unsettled == 0',
        'return self.ended != "open"',
        (PASSIVATION,),
    ),
    Mutant(
        "a record is kept before its packet leaves",
        PACKET_SHARD,
        "        await self._journals.keep_packets(shell.stream, records)\n",
        "",
        (PASSIVATION,),
    ),
    Mutant(
        "a second funding of a passivated packet finds its record",
        PACKET_SHARD,
        "        elif kind is Open:\n            yield from _packets_by(command.funding)\n",
        "",
        (PASSIVATION,),
    ),
    Mutant(
        "a lookup that a passivation overtook is made again",
        PACKET_SHARD,
        "if machine.passivated == passivated:",
        "if True:",
        (PASSIVATION,),
    ),
    Mutant(
        "an end that never became durable is never kept",
        PACKET_SHARD,
        "        await shell.commit().durable()\n        await self._journals.keep",
        "        await self._journals.keep",
        (PASSIVATION,),
    ),
    Mutant(
        "a corrupt journal is looked at seldom",
        CORE_HOST,
        "if known is not None and now_s < known.until_s:",
        "if False:",
        (PASSIVATION,),
    ),
    Mutant(
        "a fence names what it follows",
        "cluster/journal/codec.py",
        "if fence.follows != (self.position or (0, 0)):",
        "if False:",
        ("tests/unit/test_codec.py",),
    ),
    Mutant(
        "nothing is trimmed beyond the snapshot",
        MEMORY,
        "if newest is None or newest < through:",
        "if newest is None:",
        ("tests/contract/test_shelf.py",),
    ),
    Mutant(
        "the pointer to the newest snapshot never goes back",
        "cluster/journal/shelf.py",
        "if present is not None and position <= position_of(present):",
        "if False:",
        ("tests/simulation/test_snapshots.py",),
    ),
    Mutant(
        "who waits behind a full store hears at once",
        CORE_SHELL,
        "                self._tell(commit, ",
        "                (lambda *_: None)(commit, ",
        ("tests/unit/test_shell.py",),
    ),
    Mutant(
        "a sealed file is read back before the manifest names it",
        SEALING,
        "        verify_part(self._codec, stream, part, written, draft.before.chain(self._codec, stream))\n",
        "",
        (SEALING_TESTS,),
    ),
    Mutant(
        "files are looked at once more before the trim",
        SEALING,
        "                read_exactly(self._archive, stream, part)\n",
        "                pass\n",
        (SEALING_TESTS,),
    ),
    Mutant(
        "a stream is trimmed only after it was sealed",
        SEALING,
        "            await self._check_files(stream, parts, through.position)\n"
        "            trimmed = await self._journals.trim(stream, through.position)\n",
        "            trimmed = await self._journals.trim(stream, through.position)\n"
        "            await self._check_files(stream, parts, through.position)\n",
        (SEALING_TESTS,),
    ),
    Mutant(
        "a part is put only where the manifest ends",
        "cluster/journal/shelf.py",
        '            if not await self.swap_field(f"sealed:{stream}", _part_name(n), None, part):\n'
        "                return False\n",
        '            await self.write_fields(f"sealed:{stream}", {_part_name(n): part})\n',
        (SEALING_TESTS,),
    ),
    Mutant(
        "a rival's file that may still be added is never swept",
        SEALING,
        "if path not in named and first is not None and first <= parts[-1].last:",
        "if path not in named:",
        (SEALING_TESTS,),
    ),
    Mutant(
        "what was sealed ends where the snapshot's chain stands",
        SEALING,
        "        if digest not in (None, chain.digest):\n            raise _another_history(stream, through)\n",
        "",
        (SEALING_TESTS,),
    ),
    Mutant(
        "the columns of a sealed file are computed again",
        ARCHIVE,
        "        if table[name].equals(expected[name]):\n",
        '        if name == "lines" or table[name].equals(expected[name]):\n',
        (VERIFY_TESTS,),
    ),
    Mutant(
        "a sealed file is compared as a whole",
        ARCHIVE,
        "    if content is None or hashlib.sha256(content).digest() != part.sha256:\n        found = (",
        "    if content is None:\n        found = (",
        (VERIFY_TESTS,),
    ),
    Mutant(
        "an audit adds up only what was sealed",
        ARCHIVE,
        "    if hashlib.sha256(content).digest() != part.sha256:\n        raise",
        "    if not content:\n        raise",
        (OFFLINE_TESTS,),
    ),
    Mutant(
        "sealing stays behind the snapshot before the newest",
        TENDING,
        "await Sealer(journals, journals.codec, archive, bounds).run(stream, older)",
        "await Sealer(journals, journals.codec, archive, bounds).run(stream, record)",
        (ARCHIVE_TESTS,),
    ),
    Mutant(
        "a snapshot that the stream did not adopt seals nothing",
        TENDING,
        "    if not isinstance(reply, Done):\n        return None\n",
        "",
        (ARCHIVE_TESTS,),
    ),
    Mutant(
        "an audit reads to its cut and not beyond",
        READING,
        "    end = sum(1 for position in positions if through is None or position <= through)\n",
        "    end = len(positions)\n",
        (OFFLINE_TESTS,),
    ),
    Mutant(
        "what was sealed while it was read live is not read twice",
        READING,
        "    begin = sum(1 for position in positions if piece.after is not None and position <= piece.after)\n",
        "    begin = 0\n",
        (OFFLINE_TESTS,),
    ),
    Mutant(
        "money that arrived without being sent is a difference",
        OFFLINE_AUDIT,
        "difference_fen = sum(abs(book.sum_fen) for book in books) + sum(one.mismatch_fen for one in transits)",
        "difference_fen = sum(abs(book.sum_fen) for book in books)",
        (OFFLINE_TESTS,),
    ),
    Mutant(
        "a statement is of one tenant's user",
        STATEMENT,
        'pc.and_kleene(pc.equal(table["name"], user), pc.equal(table["tenant"], tenant))',
        'pc.equal(table["name"], user)',
        (OFFLINE_TESTS,),
    ),
    Mutant(
        "a start reads every tail to its last id",
        TAILS,
        "    if chain.position != last:\n",
        "    if chain.position is None:\n",
        (OFFLINE_TESTS,),
    ),
    Mutant(
        "verify reads every stream to its last id",
        VERIFY,
        "        if self._end.position is None or self._end.position < last:\n",
        "        if self._end.position is None:\n",
        (VERIFY_TESTS,),
    ),
    Mutant(
        "verify compares snapshots with the entries at which they stand",
        VERIFY,
        "if stand is not None and (record.version, record.chain) != (stand.version, stand.digest):",
        "if False:",
        (VERIFY_TESTS,),
    ),
    Mutant(
        "offline, two books are compared at the receiver's watermark",
        OFFLINE_AUDIT,
        'pc.greater(sent["number"], arrived.number)',
        'pc.greater(sent["number"], 0)',
        (OFFLINE_TESTS,),
    ),
    Mutant(
        "offline, what came ahead of its predecessors has come",
        OFFLINE_AUDIT,
        "            self.ahead.add(number)\n",
        "            pass\n",
        (OFFLINE_TESTS,),
    ),
]
