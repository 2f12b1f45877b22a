"""Routes of packets: send, look, grab, prove, commit, thank."""

import asyncio
import secrets
from collections.abc import Iterable
from itertools import count, repeat
from typing import Any

from actors.kernel.messages import Refused
from actors.kernel.names import User
from actors.packet.replies import PacketView, Shares, Takings, Won
from actors.refusals import Refusal
from actors.wallet.commands import CommitSeed, WriteNote
from actors.wallet.replies import NoteTold
from cluster.config import Settings
from cluster.gateway.auth import Callers
from cluster.gateway.dispatch.lane_fanout import CrowdReply
from cluster.gateway.middleware.overload_control import GRAB, MANY, READ, SEND
from cluster.gateway.middleware.serve_hooks import STREAM_PATH
from cluster.gateway.packet import examples, views
from cluster.gateway.packet.contract import (
    BatchBody,
    BatchRefusal,
    BatchShare,
    CommitBody,
    CommitmentBody,
    GrabBody,
    GrabItem,
    GrabItems,
    ListPage,
    NoteBody,
    NoteEntry,
    PacketBody,
    ProofBody,
    ProofPage,
    SendBody,
    SentPacket,
    ShareBody,
    StreamCode,
    StreamEnd,
    StreamGrab,
    StreamShare,
    WrittenNote,
)
from cluster.gateway.packet.grab_items import Asked, asked, batch_reader, is_sound, said_to
from cluster.gateway.packet.sends import check_commitment, check_send, send_of
from cluster.gateway.packet.stream import NDJSON
from cluster.gateway.problems import Answer, Problem, answer, expect, refused, told
from cluster.gateway.raw_http import Streamed
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.responses import respond, respond_once
from cluster.gateway.route import BodySize, Media, Route
from cluster.tokens import GATEWAY_SCOPE

APART_COUNT_MIN = 1_000
"""Shares of a packet whose proof is computed in a thread: the loop is not held for more than 2 ms."""


async def send_packet(replica: Replica, request: Request) -> Answer:
    """Send a packet. 201 means open: a grab right after it succeeds."""
    body: SendBody = request.body
    check_commitment(body.commitment_id)
    funded = await replica.service.wallets.send(send_of(body, request.user, request.key, replica.platform_key))
    sent = views.sent_packet(funded.funding, funded.others)
    return respond_once(sent, replayed=funded.replayed, location=f"/v1/packets/{sent.packet_id}")


async def read_packet(replica: Replica, request: Request) -> Answer:
    """Look at a packet; `after_rank`: at the lines of its list behind that one."""
    page: ListPage = request.query
    lanes = await _seen(replica, request, after_rank=page.after_rank)
    body = views.packet(lanes, request.caller.user, replica.settings.bounds.list_lines_max)
    if body.grabs:
        notes = await replica.service.wallets.notes(request.name)
        body.notes = [NoteEntry(note.user, note.text, note.at_ms) for note in notes]
    elif isinstance(body.grabs, list):
        body.notes = []  # before the first share nobody can have written
    return respond(body)


async def write_note(replica: Replica, request: Request) -> Answer:
    """Thank the sender of a packet of which one has a share; another text replaces the one before, a few times."""
    body: NoteBody = request.body
    author, packet_id, wallets = request.user, request.name, replica.service.wallets
    lanes = await _seen(replica, request, lines_max=1)
    if not any(lane.reader_rank for lane in lanes):
        raise Problem("not_a_taker", "Take a share of the packet first; only takers may write to its sender.")
    with told(Refusal.RATE_LIMITED, "The note was changed too often, or the packet has as many as it may."):
        wrote = WriteNote(packet_id, author.user, body.text, author.tenant)
        note = expect(await wallets.ask_stream(wallets.payer_of(packet_id), wrote), NoteTold)
    return respond(WrittenNote(packet_id, author.user, body.text, note.at_ms, note.replayed))


async def read_proof(replica: Replica, request: Request) -> Answer:
    """Get what is needed to recompute every share: of a packet in lanes one lane, of a big one a page of ranks."""
    page: ProofPage = request.query
    lines_max = replica.settings.bounds.proof_lines_max
    [seen] = await _seen(replica, request, after_rank=page.after_rank, lines_max=lines_max, proof_of=page.lane)
    proved = seen, lines_max, page.after_rank
    if seen.funding.count <= APART_COUNT_MIN:
        return respond(views.proof(*proved))
    return respond(await asyncio.to_thread(views.proof, *proved))


async def commit(replica: Replica, request: Request) -> Answer:
    """Have the platform commit to the next packet's seed, so that its sender can add a nonce chosen after it.

    Of a star packet or a rain it commits to the seed of every lane or burst.
    """
    body: CommitBody = request.body
    sender, token = request.user, secrets.token_hex(16)
    command = CommitSeed(sender.tenant, sender.user, token, body.algorithm, body.star_count or 0, body.bursts or 0)
    with told(Refusal.RATE_LIMITED, "So many commitments are unused; use one, or wait until one is over."):
        made = await replica.service.wallets.commit(command)
    committed = CommitmentBody(
        commitment_id=made.packet_id,
        algorithm=made.algorithm,
        commitment=made.commitment.hex(),
        expires_at_ms=made.expires_at_ms,
    )
    if made.further:
        committed.commitments = [commitment.hex() for commitment in made.commitments]
    return respond(committed, 201)


async def grab(replica: Replica, request: Request) -> Answer:
    """Take a share. Idempotent by (packet, user): a repeat gets the same share."""
    body: GrabBody = request.body
    packet_id, caller = request.name, request.caller
    what: Asked = packet_id
    if body.passphrase is not None or body.group is not None:
        if body.group is not None and request.claims.scope != GATEWAY_SCOPE:
            raise Problem("forbidden", "Only a gateway's token may say whose member a user is.")
        what = said_to(packet_id, body.passphrase, body.group, replica.platform_key)
    reply = await replica.service.grabs.take(what, caller.tenant, caller.user)
    if type(reply) is Won:
        return respond(ShareBody(packet_id, caller.user, reply.rank, reply.amount_fen, reply.at_ms, reply.replayed))
    assert type(reply) is Refused, "a grab is won or refused"
    return answer(refused(reply.code, reply.part), request.id)


async def grab_batch(replica: Replica, request: Request) -> Answer:
    """Grab for many users at once (chat gateways). One bad item never fails the others."""
    grabs: list[GrabItem | None] = request.body
    platform_key = replica.platform_key
    wanted: dict[Asked, list[str]] = {}
    places: dict[Asked, list[int]] = {}
    for place, item in enumerate(grabs):
        if item is None or not is_sound(item):
            continue
        what = asked(item, platform_key)
        users = wanted.get(what)
        if users is None:
            wanted[what] = [item.user]
            places[what] = [place]
        else:
            users.append(item.user)
            places[what].append(place)
    replies = await replica.service.grabs.crowds(wanted, request.caller.tenant)
    results: list[BatchShare | BatchRefusal] = [views.INVALID_ITEM] * len(grabs)
    for what, reply in replies.items():
        _put(results, places[what], reply)
    return respond(BatchBody(results))


async def grab_stream(replica: Replica, request: Request) -> Streamed:
    """Grab as a stream (chat gateways): one long request, a grab a line in, an answer a line out.

    The answer starts at once (200), then lines come in any order, each when it is durable: `{id, amount_fen, rank,
    replayed}` or `{id, code}`; `id` is your own name of the line, an integer or a text. Send the body chunked, read
    while you write, and keep at most `stream_inflight_max` lines unanswered: a line more is answered `overloaded`. A
    line that is not a grab is answered `invalid`, with `id` null if it has none that can be read. Blank lines are
    ignored.

    End your body and the rest is answered before the response ends. Otherwise the stream ends with a line without `id`,
    `{code, detail}`: `draining` (the replica ends, or the stream is old, about a minute: open another),
    `unauthenticated` (the token has expired), `too_large` (a line is too long), `malformed` (the first line is not a
    JSON object). However it ends, what is unanswered may have taken effect: ask it again on the next stream and get
    the same answer, `replayed`.
    An idle stream needs no sign of life: nothing on the way cuts it before it is old.
    """
    return await replica.streams.open(request)


def check_commit(fields: dict[str, str], body: CommitBody, settings: Settings, sender: User) -> None:
    """Say what is wrong with what a commitment is wanted for."""
    if body.star_count and body.bursts:
        fields["bursts"] = "star_count or bursts, not both"


async def _seen(replica: Replica, request: Request, **page: Any) -> list[PacketView]:
    """Look at a packet as the caller. Raises Problem: what they may not see does not exist for them."""
    lanes = await replica.service.packets.view(request.name, request.user, **page)
    if not views.may_see(lanes[0], request.caller.user):
        raise refused(Refusal.PACKET_NOT_FOUND)
    return lanes


def _put(results: list[BatchShare | BatchRefusal], places: list[int], reply: CrowdReply) -> None:
    """Put what became of one packet's grabs in their places."""
    taken: Iterable[BatchShare | BatchRefusal]
    if isinstance(reply, Shares):
        taken = map(BatchShare, reply.amounts_fen, count(reply.first_rank), repeat(False))
    elif isinstance(reply, Takings):
        taken = map(views.batch_result, reply.replies)
    else:
        taken = repeat(views.batch_result(reply), len(places))
    for place, result in zip(places, taken, strict=True):
        results[place] = result


UNKNOWN_OUTCOME = ("journal_unavailable", "shard_unavailable")
PACKET_REFUSALS = (*UNKNOWN_OUTCOME, "packet_not_found", "seed_unknown")
SEND_REFUSALS = (
    *(*UNKNOWN_OUTCOME, "paused", "seed_unknown"),
    *("insufficient_funds", "idempotency_key_reused", "rate_limited"),
)
COMMITTED_REFUSALS = ("commitment_not_found", "commitment_mismatch", "bad_times")
TAKE_REFUSALS = (
    *PACKET_REFUSALS,
    *("paused", "drained", "expired", "not_addressee", "not_member", "wrong_passphrase", "rate_limited", "not_open"),
    *("own_packet", "day_limit"),
)
_TAG = "packets"
_USERS, _GATEWAYS = Callers.USERS, Callers.GATEWAYS

# fmt: off
ROUTES = (
    Route("POST", "/v1/packets", send_packet, _USERS, SEND, _TAG, body=SendBody, check=check_send, reply=SentPacket,
          status=201, keyed=True, refusals=(*SEND_REFUSALS, *COMMITTED_REFUSALS), requests=examples.SENDS,
          answer=examples.SENT),
    Route("POST", "/v1/packets/{packet_id}/grabs", grab, _USERS, GRAB, _TAG, body=GrabBody, body_required=False,
          reply=ShareBody, refusals=TAKE_REFUSALS, requests=examples.GRABS, answer=examples.SHARE),
    Route("POST", "/v1/grabs/batch", grab_batch, _GATEWAYS, MANY, _TAG, body=GrabItems, reader=batch_reader,
          size=BodySize.BATCH, reply=BatchBody, refusals=UNKNOWN_OUTCOME, requests=examples.BATCHES,
          answer=examples.BATCH),
    Route("POST", STREAM_PATH, grab_stream, _GATEWAYS, MANY, _TAG, body=Media((NDJSON,), (StreamGrab,)),
          size=BodySize.STREAM, reply=Media((NDJSON,), (StreamShare, StreamCode, StreamEnd)), refusals=("draining",),
          requests=examples.LINES),
    Route("GET", "/v1/packets/{packet_id}", read_packet, _USERS, READ, _TAG, query=ListPage, reply=PacketBody,
          refusals=PACKET_REFUSALS, answer=examples.PACKET),
    Route("POST", "/v1/packets/{packet_id}/note", write_note, _USERS, READ, _TAG, body=NoteBody, reply=WrittenNote,
          refusals=(*PACKET_REFUSALS, "not_a_taker", "rate_limited"), requests=examples.NOTES),
    Route("GET", "/v1/packets/{packet_id}/proof", read_proof, _USERS, READ, _TAG, query=ProofPage, reply=ProofBody,
          refusals=PACKET_REFUSALS),
    Route("POST", "/v1/commitments", commit, _USERS, SEND, _TAG, body=CommitBody, body_required=False,
          check=check_commit, reply=CommitmentBody, status=201, located=False,
          refusals=(*UNKNOWN_OUTCOME, "commitment_not_found", "rate_limited"), requests=examples.COMMITS,
          answer=examples.COMMITTED),
)
# fmt: on
