"""Sends: what a packet to send is asked with, decoded and checked by msgspec before any money moves.

Every bad field is named at once. Amounts are integer fen, instants integer Unix milliseconds.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from actors.kernel.names import USER_RULE, User, is_user
from actors.packet.split import can_split
from actors.refusals import Refusal
from actors.transfers.funding import Special
from actors.transfers.ids import LANES_MAX, parse_packet_id
from actors.transfers.phrase import normal, spoken
from actors.wallet.commands import Send
from actors.wallet.rules import WalletRules
from actors.wallet.sends import SendRules
from cluster.config import Settings
from cluster.gateway.middleware.validation import read_json
from cluster.gateway.packet.grab_bodies import NOT_JSON, PASSPHRASE_CHARS_MAX
from cluster.gateway.problems import Problem, refused
from cluster.sections import Limits

GREETING_CHARS_HARD_MAX = 10_000
"""The configured limit is lower; this one bounds what is looked at at all."""
BAD_FIELDS_MAX = 20
"""So many fields are named; a body may hold thousands of unknown ones."""

SentKind = Literal["lucky", "equal", "direct", "group", "password", "star"]
"""The kinds that are sent as such; others come about by routes of their own."""

Algorithm = Literal["even/1", "double-mean/1"]
Fen = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Instant = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Text = Annotated[str, Meta(max_length=GREETING_CHARS_HARD_MAX)]


class SendBody(msgspec.Struct, forbid_unknown_fields=True):
    """A packet to send.

    `direct`: for `addressee` alone; `group`: for members of `group`; `password`: for whoever says `passphrase`; `star`:
    for the public, by a person or a `sponsor`, from `opens_at_ms` on, at most `day_count_max` shares a day, each of
    `share_fen_min` to `share_fen_max`. `shares` tells how a group, password or star packet is split (`lucky`, unless
    told); `algorithm` how lucky shares are drawn, by default `even/1`. `sender_nonce` is mixed into what was committed
    to under `commitment_id`.
    """

    kind: SentKind
    total_fen: Fen
    count: Count
    greeting: Text = ""
    shares: Literal["lucky", "equal"] | None = None
    algorithm: Algorithm | None = None
    commitment_id: str | None = None
    sender_nonce: Text | None = None
    addressee: str | None = None
    group: str | None = None
    passphrase: str | None = None
    opens_at_ms: Instant | None = None
    sponsor: Text | None = None
    day_count_max: Count | None = None
    share_fen_min: Fen | None = None
    share_fen_max: Fen | None = None

    @property
    def is_equal(self) -> bool:
        """Tell whether all shares are the same."""
        return self.kind in ("equal", "direct") or self.shares == "equal"

    def send(self, sender: User, key: str, platform_key: bytes) -> Send:
        """Return the command; the phrase goes no further."""
        special: Special | None = None
        if self.kind not in ("lucky", "equal"):
            special = Special(
                addressee=self.addressee or "",
                group=self.group or "",
                phrase=spoken(platform_key, self.passphrase) if self.passphrase else b"",
                opens_at_ms=self.opens_at_ms or 0,
                sponsor=self.sponsor or "",
                day_count_max=self.day_count_max or 0,
                excluded=sender.user if self.kind == "star" else "",
                banded=self.share_fen_max is not None,
            )
        return Send(
            sender.tenant,
            sender.user,
            key,
            self.kind,
            self.total_fen,
            self.count,
            self.greeting,
            "equal/1" if self.is_equal else self.algorithm or "even/1",
            special,
            self.commitment_id or "",
            self.sender_nonce or "",
            self.share_fen_min or 0,
            self.share_fen_max or 0,
        )


_STAR = ("opens_at_ms", "sponsor", "day_count_max", "share_fen_min", "share_fen_max", "shares")
_OWN = {
    "direct": ("addressee",),
    "group": ("group", "shares"),
    "password": ("passphrase", "shares"),
    "star": _STAR,
}
_REQUIRED = {"direct": "addressee", "group": "group", "password": "passphrase"}
_SPECIAL = ("addressee", "group", "passphrase", *_STAR)

_SEND = msgspec.json.Decoder(SendBody)
_SEND_FIELDS = {field.name: field for field in msgspec.structs.fields(SendBody)}


def read_send(body: bytes, settings: Settings, sender: str) -> SendBody:
    """Read a packet to send and check it before any money moves. Raises Problem naming every bad field."""
    try:
        wanted = _SEND.decode(body)
    except NOT_JSON as failure:
        raise _bad_send(body) from failure
    read_json(body)  # for what msgspec does not refuse
    limits = settings.limits
    fields = _misfits(wanted, sender)
    if wanted.algorithm is not None and wanted.is_equal:
        fields["algorithm"] = "not for equal shares"
    check_nonce(fields, wanted.commitment_id, wanted.sender_nonce, limits)
    crowd = wanted.kind == "star"
    check_limits(fields, wanted.total_fen, wanted.count, wanted.greeting, limits, crowd=crowd)
    if wanted.sponsor is not None and len(wanted.sponsor) > limits.sponsor_chars_max:
        fields["sponsor"] = f"at most {limits.sponsor_chars_max} characters"
    if wanted.day_count_max is not None and wanted.day_count_max < LANES_MAX:
        fields["day_count_max"] = f"at least {LANES_MAX}"
    lo, hi = check_band(fields, wanted.share_fen_min, wanted.share_fen_max, settings.rules(WalletRules).sends)
    if not fields:
        check_division(fields, wanted.total_fen, wanted.count, lo, hi, equal=wanted.is_equal)
    refuse_misfits(fields, wanted.commitment_id)
    return wanted


def refuse_misfits(fields: dict[str, str], commitment_id: str | None) -> None:
    """Raise Problem if there are any, or if what is sent under a commitment names none."""
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    if commitment_id is not None and parse_packet_id(commitment_id) is None:
        raise refused(Refusal.COMMITMENT_NOT_FOUND)


def check_limits(
    fields: dict[str, str], total_fen: int, count: int, greeting: str, limits: Limits, *, crowd: bool
) -> None:
    """Say which of these is beyond the limits; for a crowd they are others than among people."""
    total_fen_max = limits.crowd_total_fen_max if crowd else limits.total_fen_max
    count_max = limits.crowd_count_max if crowd else limits.count_max
    if total_fen > total_fen_max:
        fields["total_fen"] = f"at most {total_fen_max} fen"
    if count > count_max:
        fields["count"] = f"at most {count_max} shares"
    check_greeting(fields, greeting, limits)


def check_greeting(fields: dict[str, str], greeting: str, limits: Limits) -> None:
    """Say whether a greeting is too long."""
    if len(greeting) > limits.greeting_chars_max:
        fields["greeting"] = f"at most {limits.greeting_chars_max} characters"


def check_nonce(fields: dict[str, str], commitment_id: str | None, sender_nonce: str | None, limits: Limits) -> None:
    """Say whether a nonce is missing its commitment, or has not the length of one."""
    if (commitment_id is None) != (sender_nonce is None):
        missing = "commitment_id" if commitment_id is None else "sender_nonce"
        fields[missing] = "both, or neither: a nonce is chosen after its commitment"
    elif sender_nonce is not None and not 1 <= len(sender_nonce) <= limits.nonce_chars_max:
        fields["sender_nonce"] = f"1 to {limits.nonce_chars_max} characters"


def check_band(fields: dict[str, str], lo: int | None, hi: int | None, sends: SendRules) -> tuple[int, int]:
    """Return the band of a packet's shares; say what is wrong with the one that was asked for."""
    band = lo or sends.share_fen_min, hi or sends.share_fen_max
    if (lo is None) != (hi is None):
        fields["share_fen_max" if hi is None else "share_fen_min"] = "both ends of the band, or neither"
    elif not sends.share_fen_min <= band[0] <= band[1] <= sends.share_fen_max:
        fields["share_fen_max"] = f"a band within {sends.share_fen_min} to {sends.share_fen_max} fen"
    return band


def check_division(fields: dict[str, str], total_fen: int, count: int, lo: int, hi: int, *, equal: bool) -> None:
    """Say whether the total cannot be divided so."""
    if not can_split(total_fen, count, lo, hi):
        fields["total_fen"] = f"{lo} to {hi} fen for every share"
    elif equal and total_fen % count:
        fields["total_fen"] = "an equal packet's total divides by its count"


def _misfits(wanted: SendBody, sender: str) -> dict[str, str]:
    """Say what is missing for the kind, or does not belong to it."""
    own = _OWN.get(wanted.kind, ())
    given = {name for name in _SPECIAL if getattr(wanted, name) is not None}
    fields = dict.fromkeys(sorted(given.difference(own)), f"not for a {wanted.kind} packet")
    required = _REQUIRED.get(wanted.kind)
    if required and required not in given:
        fields[required] = f"required for a {wanted.kind} packet"
    for name in ("addressee", "group"):
        if name not in fields and name in given and not is_user(getattr(wanted, name)):
            fields[name] = USER_RULE
    if wanted.kind == "direct" and wanted.addressee == sender:
        fields["addressee"] = "somebody else than the sender"
    if wanted.kind == "direct" and wanted.count != 1:
        fields["count"] = "1 for a direct packet"
    phrase = wanted.passphrase
    sayable = phrase is None or (len(phrase) <= PASSPHRASE_CHARS_MAX and normal(phrase))
    if "passphrase" not in fields and not sayable:
        fields["passphrase"] = f"at most {PASSPHRASE_CHARS_MAX} characters, not all of them blank"
    return fields


def _bad_send(body: bytes) -> Problem:
    """Say what is wrong with a body that is no packet: msgspec names the first bad field, a client wants them all.

    Python's own reader also gets through what is nearly JSON (NaN, half a surrogate), to where the field is known.
    """
    if not body:
        return Problem("invalid", "Correct the named fields.", {"body": "a JSON object"})
    told = read_json(body)
    if not isinstance(told, dict):
        return Problem("invalid", "Correct the named fields.", {"body": "a JSON object"})
    fields = {name: "no such field" for name in told if name not in _SEND_FIELDS}
    for name, field in _SEND_FIELDS.items():
        if name in told:
            try:
                msgspec.json.encode(msgspec.convert(told[name], field.type))
            except msgspec.ValidationError as failure:
                fields[name] = str(failure)
            except UnicodeEncodeError:
                fields[name] = "no lone surrogates"
        elif field.required:
            fields[name] = "required"
    named = {_sound(name): fields[name] for name in list(fields)[:BAD_FIELDS_MAX]}
    return Problem("invalid", "Correct the named fields.", named or {"body": "a JSON object in UTF-8"})


def _sound(name: str) -> str:
    return name.encode(errors="replace").decode()
