"""Bugs that the simulator must find by itself: of shell, journal, books and crowds, one for each rule."""

from tests.bugs import HUNT, Mutant
from tests.bugs.edits import Edit, before, contrary, drop, first, instead, never, put, without

SHELL, HOST = "actors.kernel.shell:Shell", "actors.kernel.host:Host"
PACKET, PACKET_HOST = "actors.packet.machine:PacketMachine", "actors.packet.host:PacketShard"
WALLET, WALLET_HANDLERS = "actors.wallet.machine:WalletMachine", "actors.wallet.handlers"
OWNER, MEMORY = "cluster.journal.owner:OwnedJournal", "tests.simulation.memory_journal"
PACKETS, SWITCHES = "cluster.gateway.packet.packets:Packets", "cluster.gateway.operator.switches:SwitchFlow"


def bug(promise: str, anchor: str, edit: Edit) -> Mutant:
    """Return one that is hunted."""
    return Mutant(f"simulation: {promise}", anchor, edit, HUNT)


HUNTED = (
    # The shell: decide, apply, stage; durable first, then the answer.
    bug(
        "nothing happens between decide and apply",
        f"{SHELL}.stage",
        put("self.machine.apply(event)", "asyncio.get_running_loop().call_soon(self.machine.apply, event)"),
    ),
    bug(
        "a grab is applied before the next one is decided",
        f"{PACKET_HOST}._grabs",
        put("shell.stage(event, len(users))", "asyncio.get_running_loop().call_soon(shell.stage, event, len(users))"),
    ),
    bug("a reply comes after its append", f"{SHELL}._flush", before("_append", "commit.finish()")),
    bug("an answer needs a contact with the store", f"{SHELL}._flush", drop("confirm")),
    bug(
        "a replay waits until the share is durable",
        f"{PACKET_HOST}._grabs",
        before("is_final", "if type(reply) is Takings and type(reply.replies[0]) is Won: return reply, False"),
    ),
    bug(
        "a refusal waits until it is true",
        f"{PACKET_HOST}._grabs",
        before("is_final", "if type(reply) is Refused: return reply, False"),
    ),
    bug("whoever waits fails with the append", f"{SHELL}._flush", put("commit.finish(failure)", "commit.finish()")),
    bug("whoever waits behind it fails too", f"{SHELL}._end", put("self._open.finish(failure)", "self._open.finish()")),
    bug("a dead shell is never used again", f"{HOST}.shell", without("shell.dead")),
    bug("a full store gets the same entry again", f"{SHELL}._append", instead("asyncio.sleep", "return")),
    bug(
        "stream time never goes back",
        f"{SHELL}.now_ms",
        put("max(self._now_ms(), self.machine.stamp_ms)", "self._now_ms()"),
    ),
    # Epochs, fences, the store.
    bug("the journal refuses an older epoch", f"{MEMORY}:StoredStream.add", never("last")),
    bug(
        "the journal refuses a repeated append",
        f"{MEMORY}:StoredStream.add",
        put("position <= self.last", "position < self.last"),
    ),
    bug(
        "every activation raises the epoch",
        f"{MEMORY}:MemoryJournals.fence",
        put("stored.last.epoch + 1", "1 + len(self._activated)"),
    ),
    bug("a confirmation asks whose the stream is", f"{OWNER}.confirm", without("ours")),
    bug(
        "the tail is read behind the fence",
        f"{OWNER}.activate",
        instead(
            "_fence",
            "seen = [one async for one in self._elements.read(self.stream, None, None)]\n"
            "before, fence = await self._fence(host)\n"
            "before = seen[-1][0] if seen else before",
        ),
    ),
    bug(
        "a snapshot is folded from the journal alone",
        "cluster.journal.fold:fold_behind",
        instead("last = element", "last = last or element"),
    ),
    bug(
        "a trim stops at the snapshot",
        f"{MEMORY}:MemoryJournals.trim",
        instead("bisect_right", "count = len(stored.elements)"),
    ),
    # Time, ends, records.
    bug("a quiet stream has a host that keeps its time", f"{HOST}.tick", put("_streams", "self._shells")),
    bug(
        "an end follows from an event, not from the clock",
        f"{PACKET}.decide_grabs",
        put("self._expired(packet, now_ms)", "None"),
    ),
    bug("a host that starts learns of time that passed", f"{HOST}._activate_now", drop("clock_offset_ms")),
    bug("a restored stream keeps the time of its packets", f"{PACKET}._timer_of_open", contrary("ended")),
    bug(
        "a packet leaves memory settled",
        "actors.packet.state:Packet.is_quiet",
        put("self.unsettled == 0", "self.unsettled <= 1"),
    ),
    bug("a record is kept before its packet leaves memory", f"{HOST}._passivate", drop("keep_records")),
    bug(
        "a packet that left memory is not opened again",
        f"{PACKET}.decide_opening",
        put("self._find(funding.packet_id)", "self._state.packets.get(funding.packet_id)"),
    ),
    # Money: transfers between books.
    bug("an opening delivered twice opens once", f"{PACKET}.decide_opening", never("has")),
    bug("a second funding of one packet goes back", f"{PACKET}.decide_opening", never("is_of_second_rain")),
    bug(
        "money in transit is never refused",
        f"{WALLET_HANDLERS}:receive",
        first("for run in runs:\n    if step.machine._account(run.tenant, run.users[0]) is None: return"),
    ),
    bug("a range is settled once", "actors.kernel.kind:Kind.fresh", put("not received.has(transfer.number)", "True")),
    bug(
        "no number is left out",
        "actors.kernel.machine:BookMachine.outgoing",
        before("Receive", "transfers = transfers[::2]"),
    ),
    bug("what came ahead is remembered", "actors.ledger.book:Received.add", drop("self.ahead[number]")),
    bug("settlement delivers only what is durable", f"{HOST}.outgoing", drop("shell.commit().durable()")),
    bug(
        "settlement acknowledges only what was received",
        "actors.settlement.plan:acknowledgements",
        put("Acknowledge(destination, answer.number)", "Acknowledge(destination, answer.number + 1)"),
    ),
    bug(
        "a watermark is told when it is durable",
        f"{HOST}.serve",
        before("durable", "if any(type(reply) is Watermark for reply in replies): return replies"),
    ),
    bug(
        "the refund is what is left",
        f"{PACKET}._apply_expired",
        put(
            'back_to_sender("refund", event.number, packet.terms, event.amount_fen, event.at_ms)',
            'back_to_sender("refund", event.number, packet.terms, packet.total_fen, event.at_ms)',
        ),
    ),
    bug("one share per user", "actors.packet.grab_replies:replies_of", put("packet.rank_of.get(user)", "None")),
    bug("a balance is never negative", f"{WALLET}.decide_send", without("available_fen")),
    bug(
        "a key is remembered for its time",
        "actors.wallet.idempotency:remember",
        put(
            "event.at_ms - (oldest := next(iter(fundings.values()))).at_ms >= keep_ms",
            "len(fundings) > 1 and _has_arrived(state, (oldest := next(iter(fundings.values()))))",
        ),
    ),
    bug("refusing everybody is not enough", f"{PACKET}.decide_grabs", first("return None, OVERLOADED")),
    # Lanes, rains, commitments, lishi.
    bug(
        "whoever finds a lane empty is asked for in the next",
        "cluster.gateway.dispatch.lane_fanout:LaneFanout.settled",
        put("self._round == len(self._lanes)", "self._round > 0"),
    ),
    bug(
        "only an empty lane sends on",
        "cluster.gateway.dispatch.lane_fanout:LaneFanout.take_in",
        put("self.replies[place] == DRAINED", "isinstance(self.replies[place], Refused)"),
    ),
    bug(
        "the lanes sum to the total",
        "actors.wallet.sends:_parts",
        put("part_of(send.total_fen, first, end, send.count)", "send.total_fen * (end - first) // send.count"),
    ),
    bug(
        "nothing opens before its time",
        "actors.packet.grab_replies:refusal_of",
        put("packet.special.opens_at_ms", "packet.special.opens_at_ms - 400"),
    ),
    bug(
        "a burst gets no more than its shares can hold",
        "actors.packet.rain:rest_of",
        put(
            "min(packet.remaining_fen, terms.share_fen_max * terms.count - following.total_fen)", "packet.remaining_fen"
        ),
    ),
    bug(
        "what is left rolls once",
        f"{PACKET}._expired",
        put("packet.remaining_fen - rolled_fen", "packet.remaining_fen"),
    ),
    bug("a commitment is used once", f"{WALLET}._apply_funded", drop("use")),
    bug(
        "the sender's nonce decides the shares",
        "actors.packet.dealer:Dealer.deal",
        put("share_seed_of(seed, terms.sender_nonce)", "seed"),
    ),
    bug(
        "no other seed than the committed one is published",
        f"{PACKET}._expired",
        put("self.dealer.seed(funding := packet.terms)", "self.dealer.seed(funding := packet.terms) or bytes(32)"),
    ),
    bug(
        "wrong phrases are counted durably",
        f"{PACKET}.decide_grabs",
        put("PhraseMissed(packet_id, missed, now_ms)", "None"),
    ),
    bug(
        "an accepted lishi closes and pays in one step",
        f"{WALLET_HANDLERS}:_accept",
        put("step.stage(*accepted)", "step.stage(accepted[1])"),
    ),
    bug("a lapse is journaled before it is told", f"{WALLET_HANDLERS}:lishi", drop("book.due(command, now_ms)")),
    # Switches and the gateway.
    bug("nobody takes a share while grabs are paused", f"{PACKET}.decide_grabs", never("_is_paused")),
    bug(
        "a switch is durable before it is told",
        f"{SWITCHES}._set",
        put("replies.get(stream) != [Done()]", "stream not in replies"),
    ),
    bug(
        "before a 404 the wallet stream is asked",
        "cluster.gateway.packet.packets:Packets.complete",
        first("return replies"),
    ),
    bug("201 means open", "cluster.gateway.wallet.wallets:Wallets.fund", drop("open")),
    bug(
        "a gateway that knows a packet's end asks about its winners",
        "cluster.gateway.dispatch.ended_packet_cache:EndedPacket.may_have_won",
        first("return self.winners is None"),
    ),
    bug("whoever met a dead host looks it up again", "cluster.runtime.directory:Directory.call", drop("pop")),
    bug("a packet of another tenant does not exist", f"{PACKET}.decide_grabs", without("tenant")),
)
