"""Bugs that the tests of one part catch: what the simulator does not reach, or meets too seldom."""

from tests.bugs import Mutant
from tests.bugs.edits import Edit, always, drop, first, instead, never, put, swap, without


def bug(promise: str, anchor: str, edit: Edit, *tests: str) -> Mutant:
    """Return one that these files of tests catch (`unit.test_host`)."""
    return Mutant(promise, anchor, edit, tuple(f"tests/{test.replace('.', '/')}.py" for test in tests))


SEALER, PHOTOS = "cluster.journal.sealing:Sealer", "cluster.gateway.packet.photos:Photos"
STREAM, BATCHER = "cluster.gateway.packet.stream:_Stream", "cluster.gateway.dispatch.batcher:Batcher"
PAGE, VERIFY = "actors.packet.verify_packet", "cluster.offline.verify:StreamCheck"

TESTED = (
    # Machines and hosts.
    bug(
        "an end is final only once it is durable",
        "actors.packet.machine:PacketMachine.is_final",
        without("ended_version"),
        "unit.test_host",
    ),
    bug("a bug in a machine ends the activation", "actors.kernel.host:Host.serve", drop("discard"), "unit.test_host"),
    bug(
        "a caller that goes away does not break an activation",
        "actors.kernel.host:Host.shell",
        put("asyncio.shield(task)", "task"),
        "unit.test_host",
    ),
    bug(
        "only what was sent can be acknowledged",
        "actors.kernel.machine:BookMachine.decide_settled",
        never("last_number"),
        "unit.test_packet_machine",
    ),
    bug(
        "a late switch does not undo an earlier one",
        "actors.kernel.handler:set_switch",
        never("switches_asked"),
        "unit.test_levers",
    ),
    bug(
        "a repeat is answered while sends are paused",
        "actors.wallet.machine:WalletMachine.decide_send",
        first("if SENDS in self._state.switches: return PAUSED"),
        "unit.test_levers",
    ),
    bug(
        "a corrupt journal is looked at seldom",
        "actors.kernel.host:Host._activate",
        never("until_s"),
        "unit.test_passivation",
    ),
    bug(
        "a lookup that a passivation overtook is made again",
        "actors.kernel.host:Host._look_up",
        always("passivated"),
        "unit.test_passivation",
    ),
    bug(
        "what has left memory is always found",
        "actors.kernel.records:Departed.add",
        drop("at += step"),
        "unit.test_records",
    ),
    bug(
        "a draw is unbiased",
        "actors.transfers.seeds:Draw.below",
        instead("limit = _WORDS - _WORDS % n", "limit = _WORDS"),
        "unit.test_share_statistics",
    ),
    bug(
        "every share keeps its limits",
        "actors.packet.split:_double_mean",
        put(
            "min(centre - lo, hi - centre, hi * (left - 1) - (rest - centre), (rest - centre) - lo * (left - 1))",
            "min(centre - lo, hi - centre)",
        ),
        "unit.test_split",
    ),
    bug(
        "identities are never joined",
        "actors.kernel.names:crc_of_tenant",
        put('crc32(f"{tenant}\\n".encode())', "crc32(tenant.encode())"),
        "unit.test_ids",
    ),
    bug(
        "a packet's phrase counts",
        "actors.packet.eligibility:outsiders",
        put("said == special.phrase", "True"),
        "unit.test_kinds",
    ),
    bug(
        "a direct packet is for its addressee alone",
        "actors.packet.eligibility:outsiders",
        put("user != special.addressee", "False"),
        "unit.test_kinds",
    ),
    bug(
        "no share leaves but of the seed that was committed to",
        "actors.packet.dealer:Dealer.seed",
        without("commitment_of"),
        "unit.test_withheld",
    ),
    bug(
        "every link of the claim chain holds the one before",
        "actors.packet.fairness:linked",
        put("head", "head[:0]"),
        "unit.test_commitments",
    ),
    bug(
        "a key belongs to one request", "actors.wallet.sends:is_same", first("return True"), "unit.test_wallet_machine"
    ),
    bug(
        "the table of lishi is bounded",
        "actors.wallet.lishi:LishiBook.decide_ask",
        never("total_max"),
        "unit.test_lishi",
    ),
    bug("the table of asks is bounded", "actors.wallet.asks:AskBook.decide", never("total_max"), "unit.test_lishi"),
    bug("the table of notes is bounded", "actors.wallet.notes:NoteBook.decide", never("total_max"), "unit.test_notes"),
    bug(
        "a user has a part of every bound, and a tenant has",
        "actors.kernel.quota:Counts.full",
        first("return None"),
        "unit.test_fair",
        "unit.test_owners",
    ),
    # The journal, sealed parts, and what reads them.
    bug("a fence names what it follows", "cluster.journal.codec:Chain.take", never("follows"), "unit.test_codec"),
    bug(
        "the pointer to the newest snapshot never goes back",
        "cluster.journal.side_store:SideStore.adopt_snapshot",
        never("position <= newest"),
        "simulation.test_snapshots",
    ),
    bug(
        "a sealed file is read back before the manifest names it",
        f"{SEALER}._add",
        drop("verify_part"),
        "contract.test_sealing",
    ),
    bug(
        "a stream is trimmed only after its files were looked at",
        f"{SEALER}.run",
        swap("_check_files", "trim"),
        "contract.test_sealing",
    ),
    bug(
        "a sealed file is compared as a whole",
        "cluster.journal.archive:verify_part",
        put("hashlib.sha256(content).digest() != part.sha256", "False"),
        "contract.test_verify",
    ),
    bug(
        "verify holds snapshots against their entries",
        f"{VERIFY}._check_snapshots",
        never("stand.digest"),
        "contract.test_verify",
    ),
    bug(
        "money that arrived without being sent is a difference",
        "cluster.offline.audit:audit_of",
        put("sum(one.mismatch_fen for one in transits)", "0"),
        "contract.test_offline",
    ),
    bug(
        "two books of one kind are compared",
        "cluster.runtime.live_audit:pairs_of",
        put("one.received.items()", "[(s, r) for s, r in one.received.items() if s[:3] != one.stream[:3]]"),
        "unit.test_live_audit",
    ),
    bug(
        "a wrong sign is not clean though the sums agree",
        "cluster.runtime.live_audit:_report",
        put("difference_fen == 0 and not wrong_sides", "difference_fen == 0"),
        "unit.test_live_audit",
    ),
    bug(
        "a kind says of every event what it posts",
        "actors.kernel.kind:_check_postings",
        first("return"),
        "unit.test_postings",
    ),
    bug(
        "an open hold is never forgotten",
        "actors.ledger.holds:Holds._forget",
        first("self._book.open.pop(next(iter(self._book.open), None), None)"),
        "unit.test_holds",
    ),
    bug(
        "a statement is of one tenant's user",
        "cluster.offline.statement:_read",
        put('pc.equal(table["tenant"], tenant)', 'pc.equal(table["name"], user)'),
        "contract.test_offline",
    ),
    bug(
        "an audit holds a published seed against its commitment",
        "actors.packet.proof:ShareProver._wrong_in",
        never("commitment"),
        "unit.test_offline_shares",
    ),
    bug(
        "a shard with other keys fences nobody out",
        "cluster.keys:KeyedJournal.activate",
        first("await super().activate(host)"),
        "unit.test_keys",
    ),
    bug(
        "a restore replaces nothing that another system keeps",
        "cluster.offline.backup:_put",
        first("place.write(path, content)"),
        "unit.test_backup_places",
    ),
    bug(
        "what was on disk and is missing is never taken for a cut write",
        "cluster.local.store_log:_lost_bytes",
        first("return 0"),
        "unit.test_store_log",
    ),
    # The page that checks a proof.
    bug(
        "a proof's commitment is recomputed", f"{PAGE}:verify", never('proof["commitment"]'), "unit.test_verify_packet"
    ),
    bug("a proof's shares are compared", f"{PAGE}:verify", never("told[place]"), "unit.test_verify_packet"),
    bug("a proof's chain is compared", f"{PAGE}:verify", never('proof["chain_links"]'), "unit.test_verify_packet"),
    bug("no user takes in two lanes", f"{PAGE}:verify_lanes", never("users"), "unit.test_verify_packet"),
    # The gateway.
    bug("only a chat gateway names users", "cluster.gateway.auth:acting", never("GATEWAY_SCOPE"), "unit.test_auth"),
    bug(
        "who calls is known before a body is read",
        "cluster.gateway.middleware.admission:Admission.authenticate",
        first("return _ANYBODY"),
        "unit.test_doors",
    ),
    bug(
        "a body that does not tell its length is bounded",
        "cluster.gateway.raw_http:read_body",
        never("bytes_max"),
        "unit.test_http_refusals",
    ),
    bug(
        "a body that says a key twice is refused",
        "cluster.gateway.contract:BodyDecoder.__call__",
        never("texts_in"),
        "unit.test_strict",
    ),
    bug(
        "a body that does not come gives its place back",
        "cluster.gateway.raw_http:_within",
        put("until_s", "until_s + 3_600"),
        "unit.test_doors",
    ),
    bug(
        "a stranger does not see a direct packet",
        "cluster.gateway.packet.views:may_see",
        first("return True"),
        "unit.test_kinds",
    ),
    bug(
        "another tenant is never answered from a gateway's memory",
        "cluster.gateway.dispatch.ended_packet_cache:EndedPacketCache.find",
        without("tenant"),
        "unit.test_ended",
    ),
    bug(
        "nobody sees a photo clearly who has not paid", f"{PHOTOS}.clear", never("payment"), "unit.test_photos_promise"
    ),
    bug("who has paid for a photo pays nothing again", f"{PHOTOS}.pay", never("paid"), "unit.test_photos"),
    bug("a queue is bounded", f"{BATCHER}.put", never("has_room"), "unit.test_batching"),
    bug("a packet's part of a queue is bounded", f"{BATCHER}.put", never("lane_has_room"), "unit.test_batching"),
    bug(
        "who was sent is not told that nothing was done",
        f"{BATCHER}._take",
        put("UNAVAILABLE if parcel.sent else OVERLOADED", "OVERLOADED"),
        "unit.test_batching",
    ),
    bug(
        "what waits for a packet takes its turn",
        "cluster.gateway.dispatch.fair_queue:FairQueue.take",
        put("parcels.popleft", "parcels.pop"),
        "unit.test_lanes",
    ),
    bug("a line of a stream is answered once", f"{STREAM}._tell", never("group.told"), "unit.test_stream"),
    bug(
        "a stream holds no more unanswered lines than its bound",
        f"{STREAM}._take",
        drop("self._unanswered += group.size"),
        "unit.test_stream",
    ),
    bug(
        "overload is not always the same people's",
        "cluster.gateway.middleware.overload_control:priority_of",
        put("user_hash ^ hour * 0x9E3779B1", "user_hash"),
        "unit.test_admission",
    ),
    bug(
        "a secret within text is cut out of logs",
        "cluster.observability.logs:_clean",
        drop("pattern.sub"),
        "unit.test_logs",
    ),
    bug(
        "a retry is never earlier than Retry-After",
        "cluster.client.transport:Backoff.pause_s",
        put("max(retry_after_ms, self._next_ms)", "self._next_ms"),
        "unit.test_client",
    ),
    bug(
        "what may have taken effect stays unknown until it is told",
        "cluster.client.transport:Transport.exchange",
        put("unknown or problem.unknown", "problem.unknown"),
        "unit.test_client",
    ),
    bug(
        "a lost answer may hide an effect",
        "loadtest.recorder:_outcome",
        put("'unknown' if unknown else 'later' if retryable else 'refused'", "'later' if retryable else 'refused'"),
        "unit.test_chaos_run",
    ),
    bug(
        "a listed user who was refused every time is a contradiction",
        "loadtest.oracle:check_packet",
        never("'unknown' not in answers[user]"),
        "unit.test_oracle",
    ),
    bug(
        "an open packet's rest is not refunded yet",
        "loadtest.oracle:_check_end",
        put("0 if packet.state == 'open' else packet.total_fen - paid_fen", "packet.total_fen - paid_fen"),
        "unit.test_oracle",
    ),
)
