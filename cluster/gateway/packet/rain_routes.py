"""Routes of rains: a campaign of timed bursts with one budget. Each burst is a packet, looked at and grabbed as any."""

from fastapi import Request
from starlette.responses import Response

from actors.kernel.names import User
from actors.transfers.funding import Special
from actors.wallet.commands import Burst, Send
from actors.wallet.rules import WalletRules
from cluster.config import Settings
from cluster.gateway import responses
from cluster.gateway.idempotency import KEY_PARAMETER, key_of, told_once
from cluster.gateway.middleware.validation import StrictRouter
from cluster.gateway.packet.send_bodies import check_band, check_division, check_limits, check_nonce, refuse_misfits
from cluster.gateway.schemas import RainBody, RainState

router = StrictRouter(tags=["rains"])


@router.post(
    "/v1/rains",
    status_code=201,
    response_model=RainState,
    response_model_exclude_none=True,
    openapi_extra={"parameters": [KEY_PARAMETER]},
)
async def send_rain(request: Request, body: RainBody) -> Response:
    """Send a rain. 201 means that every burst is paid for and opens at its time."""
    gateway = request.app.state.gateway
    sender = gateway.auth.acting_user(request)
    key = key_of(request)
    _check(body, gateway.settings)
    funded = await gateway.service.send(_send(body, sender, key))
    rain = responses.rain([funded.funding, *funded.others])
    return told_once(rain, replayed=funded.replayed, location=f"/v1/rains/{rain['rain_id']}")


@router.get("/v1/rains/{rain_id}", response_model=RainState, response_model_exclude_none=True)
async def read_rain(request: Request, rain_id: str) -> Response:
    """Look at a rain: what every burst has given, and what it left."""
    gateway = request.app.state.gateway
    reader = gateway.auth.acting_user(request)
    views = await gateway.service.rain(rain_id, reader, gateway.keys.key(gateway.keys.first))
    return responses.json_response(responses.rain([view.funding for view in views], views))


def _send(body: RainBody, sender: User, key: str) -> Send:
    bursts = [Burst(one.opens_at_ms, one.ends_at_ms, one.total_fen, one.count) for one in body.bursts]
    total_fen, count = sum(one.total_fen for one in bursts), sum(one.count for one in bursts)
    algorithm = "equal/1" if body.shares == "equal" else body.algorithm
    banded = body.share_fen_max is not None
    special = Special(sponsor=body.sponsor, excluded=sender.user, rolls=body.rest == "roll", banded=banded)
    who = sender.tenant, sender.user, key
    band = body.share_fen_min or 0, body.share_fen_max or 0
    fair = body.commitment_id or "", body.sender_nonce or ""
    return Send(*who, "rain", total_fen, count, body.greeting, algorithm, special, *fair, *band, bursts)


def _check(body: RainBody, settings: Settings) -> None:
    """Check a rain before any money moves. Raises Problem naming every bad field."""
    limits = settings.limits
    fields: dict[str, str] = {}
    if len(body.bursts) > limits.bursts_max:
        fields["bursts"] = f"at most {limits.bursts_max}"
    if len(body.sponsor) > limits.sponsor_chars_max:
        fields["sponsor"] = f"at most {limits.sponsor_chars_max} characters"
    if body.shares == "equal" and "algorithm" in body.model_fields_set:
        fields["algorithm"] = "not for equal shares"
    check_nonce(fields, body.commitment_id, body.sender_nonce, limits)
    check_limits(fields, sum(one.total_fen for one in body.bursts), 1, body.greeting, limits, crowd=True)
    lo, hi = check_band(fields, body.share_fen_min, body.share_fen_max, settings.rules(WalletRules).sends)
    before_ms = 0
    for number, burst in enumerate(body.bursts[: limits.bursts_max]):
        of_burst: dict[str, str] = {}
        check_limits(of_burst, burst.total_fen, burst.count, "", limits, crowd=True)
        if not fields and not of_burst:
            check_division(of_burst, burst.total_fen, burst.count, lo, hi, equal=body.shares == "equal")
        if burst.opens_at_ms < before_ms:
            of_burst["opens_at_ms"] = "not before the burst before it ends"
        if not limits.burst_ms_min <= burst.ends_at_ms - burst.opens_at_ms <= limits.burst_ms_max:
            of_burst["ends_at_ms"] = f"{limits.burst_ms_min} to {limits.burst_ms_max} ms after it opens"
        before_ms = burst.ends_at_ms
        fields |= {f"bursts.{number}.{name}": text for name, text in of_burst.items()}
    refuse_misfits(fields, body.commitment_id)
