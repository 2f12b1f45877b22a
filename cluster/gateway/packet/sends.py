"""Sends: packets and rains as they were asked for, checked before any money moves, and the commands they become.

Every bad field is named at once.
"""

from actors.kernel.names import User
from actors.packet.split import can_split
from actors.refusals import Refusal
from actors.transfers.funding import Special
from actors.transfers.ids import parse_packet_id
from actors.transfers.phrase import spoken
from actors.wallet.commands import Burst, Send
from actors.wallet.rules import WalletRules
from actors.wallet.sends import SendRules
from cluster.config import Settings
from cluster.gateway.packet.contract import BurstBody, RainBody, SendBody
from cluster.gateway.problems import refused
from cluster.sections import Limits

_STAR = ("opens_at_ms", "sponsor", "day_count_max", "share_fen_min", "share_fen_max", "shares")
_OWN = {
    "direct": ("addressee",),
    "group": ("group", "shares"),
    "password": ("passphrase", "shares"),
    "star": _STAR,
}
_REQUIRED = {"direct": "addressee", "group": "group", "password": "passphrase"}
_SPECIAL = ("addressee", "group", "passphrase", *_STAR)


def send_of(body: SendBody, sender: User, key: str, platform_key: bytes) -> Send:
    """Return the command that sends a packet; the phrase goes no further."""
    special: Special | None = None
    if body.kind not in ("lucky", "equal"):
        special = Special(
            addressee=body.addressee or "",
            group=body.group or "",
            phrase=spoken(platform_key, body.passphrase) if body.passphrase else b"",
            opens_at_ms=body.opens_at_ms or 0,
            sponsor=body.sponsor or "",
            day_count_max=body.day_count_max or 0,
            excluded=sender.user if body.kind == "star" else "",
            banded=body.share_fen_max is not None,
        )
    return Send(
        sender.tenant,
        sender.user,
        key,
        body.kind,
        body.total_fen,
        body.count,
        body.greeting,
        "equal/1" if body.is_equal else body.algorithm or "even/1",
        special,
        body.commitment_id or "",
        body.sender_nonce or "",
        body.share_fen_min or 0,
        body.share_fen_max or 0,
    )


def rain_of(body: RainBody, sender: User, key: str) -> Send:
    """Return the command that sends a rain."""
    bursts = [Burst(burst.opens_at_ms, burst.ends_at_ms, burst.total_fen, burst.count) for burst in body.bursts]
    special = Special(
        sponsor=body.sponsor,
        excluded=sender.user,
        rolls=body.rest == "roll",
        banded=body.share_fen_max is not None,
    )
    return Send(
        sender.tenant,
        sender.user,
        key,
        "rain",
        sum(burst.total_fen for burst in bursts),
        sum(burst.count for burst in bursts),
        body.greeting,
        "equal/1" if body.shares == "equal" else body.algorithm or "even/1",
        special,
        body.commitment_id or "",
        body.sender_nonce or "",
        body.share_fen_min or 0,
        body.share_fen_max or 0,
        bursts,
    )


def check_send(fields: dict[str, str], body: SendBody, settings: Settings, sender: User) -> None:
    """Say what is wrong with a packet to send beyond the bounds of each field."""
    limits = settings.limits
    fields |= _misplaced(body, sender.user)
    if body.algorithm is not None and body.is_equal:
        fields["algorithm"] = "not for equal shares"
    _check_nonce(fields, body.commitment_id, body.sender_nonce)
    _check_size(fields, body, limits, crowd=body.kind == "star")
    lo, hi = _check_band(fields, body.share_fen_min, body.share_fen_max, settings.rules(WalletRules).sends)
    if not fields:
        _check_division(fields, body, lo, hi, equal=body.is_equal)


def check_rain(fields: dict[str, str], body: RainBody, settings: Settings, sender: User) -> None:
    """Say what is wrong with a rain to send beyond the bounds of each field."""
    limits = settings.limits
    if body.shares == "equal" and body.algorithm is not None:
        fields["algorithm"] = "not for equal shares"
    _check_nonce(fields, body.commitment_id, body.sender_nonce)
    if sum(burst.total_fen for burst in body.bursts) > limits.crowd_total_fen_max:
        fields["total_fen"] = f"at most {limits.crowd_total_fen_max} fen"
    lo, hi = _check_band(fields, body.share_fen_min, body.share_fen_max, settings.rules(WalletRules).sends)
    before_ms = 0
    for number, burst in enumerate(body.bursts[: limits.bursts_max]):
        of_burst: dict[str, str] = {}
        _check_size(of_burst, burst, limits, crowd=True)
        if not fields and not of_burst:
            _check_division(of_burst, burst, lo, hi, equal=body.shares == "equal")
        if burst.opens_at_ms < before_ms:
            of_burst["opens_at_ms"] = "not before the burst before it ends"
        if not limits.burst_ms_min <= burst.ends_at_ms - burst.opens_at_ms <= limits.burst_ms_max:
            of_burst["ends_at_ms"] = f"{limits.burst_ms_min} to {limits.burst_ms_max} ms after it opens"
        before_ms = burst.ends_at_ms
        fields |= {f"bursts.{number}.{name}": words for name, words in of_burst.items()}


def check_commitment(commitment_id: str | None) -> None:
    """Refuse what is sent under a commitment that is not an id. Raises Problem."""
    if commitment_id is not None and parse_packet_id(commitment_id) is None:
        raise refused(Refusal.COMMITMENT_NOT_FOUND)


def _check_size(fields: dict[str, str], body: SendBody | BurstBody, limits: Limits, *, crowd: bool) -> None:
    """Say which of total and count is beyond the limits; for a crowd they are others than among people."""
    total_fen_max = limits.crowd_total_fen_max if crowd else limits.total_fen_max
    count_max = limits.crowd_count_max if crowd else limits.count_max
    if body.total_fen > total_fen_max:
        fields["total_fen"] = f"at most {total_fen_max} fen"
    if body.count > count_max:
        fields["count"] = f"at most {count_max} shares"


def _check_nonce(fields: dict[str, str], commitment_id: str | None, sender_nonce: str | None) -> None:
    """Say whether a nonce is missing its commitment, or the other way round."""
    if (commitment_id is None) != (sender_nonce is None):
        missing = "commitment_id" if commitment_id is None else "sender_nonce"
        fields[missing] = "both, or neither: a nonce is chosen after its commitment"


def _check_band(fields: dict[str, str], lo: int | None, hi: int | None, sends: SendRules) -> tuple[int, int]:
    """Return the band of a packet's shares; say what is wrong with the one that was asked for."""
    band = lo or sends.share_fen_min, hi or sends.share_fen_max
    if (lo is None) != (hi is None):
        fields["share_fen_max" if hi is None else "share_fen_min"] = "both ends of the band, or neither"
    elif not sends.share_fen_min <= band[0] <= band[1] <= sends.share_fen_max:
        fields["share_fen_max"] = f"a band within {sends.share_fen_min} to {sends.share_fen_max} fen"
    return band


def _check_division(fields: dict[str, str], body: SendBody | BurstBody, lo: int, hi: int, *, equal: bool) -> None:
    """Say whether the total cannot be divided so."""
    if not can_split(body.total_fen, body.count, lo, hi):
        fields["total_fen"] = f"{lo} to {hi} fen for every share"
    elif equal and body.total_fen % body.count:
        fields["total_fen"] = "an equal packet's total divides by its count"


def _misplaced(body: SendBody, sender: str) -> dict[str, str]:
    """Say what is missing for the kind, or does not belong to it."""
    own = _OWN.get(body.kind, ())
    given = {name for name in _SPECIAL if getattr(body, name) is not None}
    fields = dict.fromkeys(sorted(given.difference(own)), f"not for a {body.kind} packet")
    required = _REQUIRED.get(body.kind)
    if required and required not in given:
        fields[required] = f"required for a {body.kind} packet"
    if body.kind == "direct" and body.addressee == sender:
        fields["addressee"] = "somebody else than the sender"
    if body.kind == "direct" and body.count != 1:
        fields["count"] = "1 for a direct packet"
    return fields
