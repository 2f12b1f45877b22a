"""Client: one caller's view of the platform, a method per route of the contract.

`acting` gives another caller's view over the same connections.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import msgspec
from yarl import URL

from cluster.client import answers, orders
from cluster.client.problems import BROKEN_CONTRACT, RETRYABLE_ITEM_CODES, UNKNOWN_CODES, ApiProblem
from cluster.client.transport import BATCH_SIZE_MAX, Backoff, Chance, RawAnswer, Transport

_Answer = TypeVar("_Answer")
_JSON = {"Content-Type": "application/json"}
_NO_RETRY = 0.0
"""A deadline that has passed: one attempt."""


class Client:
    """The platform as one caller sees it. Use it as an async context."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        connections_max: int = 64,
        attempt_s: float = 12.0,
        deadline_s: float = 30.0,
        chance: Chance = random.random,
    ) -> None:
        """Prepare a client for the platform at `url`, e.g. "http://127.0.0.1:8000".

        `attempt_s` bounds one attempt, `deadline_s` all attempts of a request (0: one attempt); `chance` draws the
        jitter of retries.
        """
        self.transport = Transport(
            url, connections_max=connections_max, attempt_s=attempt_s, deadline_s=deadline_s, chance=chance
        )
        self._headers = _headers_of(token, "")

    async def __aenter__(self) -> Self:
        """Open the connections."""
        await self.transport.open()
        return self

    async def __aexit__(self, *exc_details: object) -> None:
        """Close the connections."""
        await self.transport.close()

    def acting(self, token: str, *, user: str = "") -> "Client":
        """Return the same client with another caller's token; `user`: whom a gateway's token acts for."""
        other = object.__new__(Client)
        other.transport = self.transport
        other._headers = _headers_of(token, user)
        return other

    # Packets

    async def commit(
        self, algorithm: str = "even/1", *, star_count: int | None = None, bursts: int | None = None
    ) -> answers.CommitmentAnswer | ApiProblem:
        """Get a commitment to the shares before the sender chooses a nonce."""
        body = _given(algorithm=algorithm, star_count=star_count, bursts=bursts)
        return await self._post("/v1/commitments", answers.CommitmentAnswer, body)

    async def send(self, order: orders.PacketOrder, *, key: str) -> answers.PacketAnswer | ApiProblem:
        """Send a packet of the acting user; the same `key` never funds twice."""
        return await self._post("/v1/packets", answers.PacketAnswer, order, key)

    async def packet(self, packet_id: str, *, after_rank: int | None = None) -> answers.PacketAnswer | ApiProblem:
        """Read a packet as the acting user may see it; the list behind a rank, if asked."""
        return await self._get(_path(f"/v1/packets/{packet_id}", after_rank=after_rank), answers.PacketAnswer)

    async def grab(
        self, packet_id: str, *, passphrase: str | None = None, group: str | None = None
    ) -> answers.GrabAnswer | ApiProblem:
        """Grab a share for the acting user."""
        body = _given(passphrase=passphrase, group=group)
        return await self._post(f"/v1/packets/{packet_id}/grabs", answers.GrabAnswer, body)

    async def grab_batch(self, grabs: Sequence[orders.GrabOrder]) -> list[answers.ItemAnswer] | ApiProblem:
        """Grab for many, by a gateway's token. Items refused for now are asked again until the deadline."""
        assert len(grabs) <= BATCH_SIZE_MAX, "a batch is bounded"
        ends_s, backoff = self.transport.ends_s(), Backoff(self.transport.chance)
        results = [answers.ItemAnswer()] * len(grabs)
        places, unknown = list(range(len(grabs))), set[int]()
        while True:
            body = {"grabs": [grabs[place] for place in places]}
            answer = await self._post("/v1/grabs/batch", answers.BatchAnswer, body, ends_s=ends_s)
            if isinstance(answer, ApiProblem):
                if len(places) == len(grabs):
                    return answer
                for place in places:
                    hidden = answer.unknown or place in unknown
                    results[place] = answers.ItemAnswer(code=answer.code, unknown=hidden)
                return results
            if len(answer.results) != len(places):
                return ApiProblem(200, BROKEN_CONTRACT, retryable=False, unknown=True)
            for place, item in zip(places, answer.results, strict=True):
                results[place] = item
            places = [place for place in places if results[place].code in RETRYABLE_ITEM_CODES]
            unknown.update(place for place in places if results[place].code in UNKNOWN_CODES)
            if not places or not await self.transport.pause(backoff.pause_s(), ends_s):
                for place in unknown.intersection(places):
                    results[place] = msgspec.structs.replace(results[place], unknown=True)
                return results

    async def proof(
        self, packet_id: str, *, lane: int | None = None, after_rank: int | None = None
    ) -> dict[str, Any] | ApiProblem:
        """Read the fairness proof of a packet; of one of its lanes; the page behind that rank."""
        path = _path(f"/v1/packets/{packet_id}/proof", lane=lane, after_rank=after_rank)
        return await self._get(path, dict[str, Any])

    async def write_note(self, packet_id: str, text: str) -> answers.NoteAnswer | ApiProblem:
        """Write to the sender, as a taker."""
        return await self._post(f"/v1/packets/{packet_id}/note", answers.NoteAnswer, {"text": text})

    async def send_rain(self, order: orders.RainOrder, *, key: str) -> answers.RainAnswer | ApiProblem:
        """Send a rain."""
        return await self._post("/v1/rains", answers.RainAnswer, order, key)

    async def rain(self, rain_id: str) -> answers.RainAnswer | ApiProblem:
        """Read a rain."""
        return await self._get(f"/v1/rains/{rain_id}", answers.RainAnswer)

    # Requests for packets

    async def ask_lishi(self, asked: str, *, key: str, greeting: str = "") -> answers.LishiAnswer | ApiProblem:
        """Ask somebody of the acting user's tenant for a packet."""
        return await self._post("/v1/lishi", answers.LishiAnswer, {"asked": asked, "greeting": greeting}, key)

    async def lishi_waiting(self) -> list[answers.LishiAnswer] | ApiProblem:
        """Read the requests that wait for the acting user's answer."""
        answer = await self._get("/v1/lishi", answers.LishiListAnswer)
        return answer if isinstance(answer, ApiProblem) else answer.lishi

    async def lishi(self, lishi_id: str) -> answers.LishiAnswer | ApiProblem:
        """Read a request."""
        return await self._get(f"/v1/lishi/{lishi_id}", answers.LishiAnswer)

    async def accept_lishi(
        self, lishi_id: str, amount_fen: int, *, key: str, greeting: str = ""
    ) -> answers.PacketAnswer | ApiProblem:
        """Answer a request with a packet."""
        body = {"amount_fen": amount_fen, "greeting": greeting}
        return await self._post(f"/v1/lishi/{lishi_id}/accept", answers.PacketAnswer, body, key)

    async def decline_lishi(self, lishi_id: str) -> answers.LishiAnswer | ApiProblem:
        """Answer a request with a no."""
        return await self._post(f"/v1/lishi/{lishi_id}/decline", answers.LishiAnswer, None)

    # Photos

    async def upload_photo(
        self, picture: bytes, media_type: str, *, price_fen_min: int, price_fen_max: int, key: str
    ) -> answers.PhotoAnswer | ApiProblem:
        """Make a photo of a picture (image/jpeg, image/png or image/webp); each reader's price comes from the band."""
        path = _path("/v1/photos", price_fen_min=price_fen_min, price_fen_max=price_fen_max)
        headers = {"Content-Type": media_type, "Idempotency-Key": key}
        return _decoded(await self.exchange("POST", path, picture, headers), answers.PhotoAnswer)

    async def photo(self, photo_id: str) -> answers.PhotoAnswer | ApiProblem:
        """Read a photo: whether the acting user has paid, and what it costs them."""
        return await self._get(f"/v1/photos/{photo_id}", answers.PhotoAnswer)

    async def picture(self, photo_id: str, *, clear: bool) -> bytes | ApiProblem:
        """Get a photo's picture: blurred for everybody, clear for its owner and those who have paid."""
        answer = await self.exchange("GET", f"/v1/photos/{photo_id}/{'clear' if clear else 'blurred'}")
        return answer.content if answer.problem is None else answer.problem

    async def pay_photo(self, photo_id: str, price_fen: int, *, key: str) -> answers.PaymentAnswer | ApiProblem:
        """Pay the price that the acting user was shown."""
        body = {"price_fen": price_fen}
        return await self._post(f"/v1/photos/{photo_id}/payments", answers.PaymentAnswer, body, key)

    # Wallets

    async def wallet(self) -> answers.WalletAnswer | ApiProblem:
        """Read the acting user's money."""
        return await self._get("/v1/wallet", answers.WalletAnswer)

    async def statement(self, *, limit: int = 20, cursor: str | None = None) -> answers.StatementAnswer | ApiProblem:
        """Read the acting user's movements, newest first."""
        return await self._get(_path("/v1/wallet/statement", limit=limit, cursor=cursor), answers.StatementAnswer)

    # Operators

    async def audit(self) -> answers.AuditAnswer | ApiProblem:
        """Read the conservation report."""
        return await self._get("/v1/audit", answers.AuditAnswer)

    async def figures(self) -> dict[str, Any] | ApiProblem:
        """Read what the platform measures of itself."""
        return await self._get("/v1/figures", dict[str, Any])

    async def levers(self) -> list[answers.PausedSwitch] | ApiProblem:
        """Read what is paused."""
        answer = await self._get("/v1/levers", answers.SwitchesAnswer)
        return answer if isinstance(answer, ApiProblem) else answer.paused

    async def set_lever(self, lever: str, *, paused: bool) -> ApiProblem | None:
        """Pause or resume `sends`, `grabs`, or `packets/<id>`."""
        content = msgspec.json.encode({"paused": paused})
        return (await self.exchange("PUT", f"/v1/levers/{lever}", content, _JSON)).problem

    async def create_user(self, user: str, tenant: str, balance_fen: int) -> answers.UserAnswer | ApiProblem:
        """Create a sandbox user; an existing one keeps its balance."""
        body = {"user": user, "tenant": tenant, "balance_fen": balance_fen}
        return await self._post("/sandbox/users", answers.UserAnswer, body)

    async def advance_clock(self, advance_ms: int) -> ApiProblem | None:
        """Move the sandbox clock forward. One attempt: an advance is relative, so a retry would move it twice."""
        content = msgspec.json.encode({"advance_ms": advance_ms})
        return (await self.exchange("POST", "/sandbox/clock", content, _JSON, ends_s=_NO_RETRY)).problem

    async def ready(self) -> dict[str, Any] | ApiProblem:
        """Ask once whether the platform serves money; the answer carries the system's id."""
        return _decoded(await self.exchange("GET", "/readyz", ends_s=_NO_RETRY), dict[str, Any])

    # Below: requests of any route.

    async def exchange(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] = {},
        **bounds: Any,
    ) -> RawAnswer:
        """Make a request of any route, with the retries of `Transport.exchange`; return the answer as it came."""
        return await self.transport.exchange(method, path, content, {**self._headers, **headers}, **bounds)

    async def _get(self, path: str, answer_type: type[_Answer]) -> _Answer | ApiProblem:
        return _decoded(await self.exchange("GET", path), answer_type)

    async def _post(
        self, path: str, answer_type: type[_Answer], body: object, key: str = "", ends_s: float | None = None
    ) -> _Answer | ApiProblem:
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {**_JSON, "Idempotency-Key": key} if key else _JSON
        return _decoded(await self.exchange("POST", path, content, headers, ends_s=ends_s), answer_type)


def _headers_of(token: str, user: str) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return headers | {"X-Acting-User": user} if user else headers


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _path(path: str, **query: int | str | None) -> str:
    return str(URL(path).with_query(_given(**query)))


def _decoded(answer: RawAnswer, answer_type: type[_Answer]) -> _Answer | ApiProblem:
    if answer.problem is not None:
        return answer.problem
    try:
        return msgspec.json.decode(answer.content, type=answer_type)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ApiProblem(answer.status, BROKEN_CONTRACT, retryable=False, unknown=True)
