"""Switch commands: pause what a running system does and let it go on, over HTTP as an operator."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cluster.commands.terminal import AsJson, Data, Failure, out, print_json, progress
from cluster.commands.tokens import operator_at
from cluster.instants import second_of

if TYPE_CHECKING:
    from cluster.client import ApiProblem, PausedSwitch

DEADLINE_S = 30.0
STATUS_S = 3.0
"""So long `status` waits to hear what is paused."""

What = Annotated[Literal["sends", "grabs", "packet"], typer.Argument(help="What: sends, grabs, or one packet.")]
PacketId = Annotated[str | None, typer.Argument(help="With packet: its id.")]
Url = Annotated[str | None, typer.Option(help="Address of the system, with --token.")]
Token = Annotated[str | None, typer.Option(help="An operator's token.")]


def pause(
    what: What,
    packet_id: PacketId = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Pause sends, grabs or one packet: new ones are answered `paused` until they are resumed."""
    _set(what, packet_id, True, url, token, data, as_json)


def resume(
    what: What,
    packet_id: PacketId = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Let sends, grabs or one packet go on."""
    _set(what, packet_id, False, url, token, data, as_json)


def _set(
    what: str, packet_id: str | None, paused: bool, url: str | None, token: str | None, data: Data, as_json: bool
) -> None:
    if (what == "packet") is not (packet_id is not None):
        raise Failure("a packet is named by its id: packet ID" if what == "packet" else f"{what} are all {what}, no id")
    from actors.transfers.ids import parse_packet_id
    from cluster.client import ApiProblem, Client

    if packet_id is not None and parse_packet_id(packet_id) is None:
        raise Failure(f"{packet_id!r} is not a packet id")
    address, operator_token = operator_at(url, token, data)

    async def ask() -> "ApiProblem | list[PausedSwitch]":
        async with Client(address, operator_token, deadline_s=DEADLINE_S) as client:
            refused = await client.set_lever(what if packet_id is None else f"packets/{packet_id}", paused=paused)
            return refused if refused is not None else await client.levers()

    with progress("Pausing" if paused else "Resuming"):
        answer = asyncio.run(ask())
    if isinstance(answer, ApiProblem):
        undecided = "; it may be so in part, and may be repeated" if answer.unknown else ""
        raise Failure(f"{address} {answer.told}{undecided}")
    if as_json:
        import msgspec

        print_json({"paused": msgspec.to_builtins(answer)})
    else:
        out.print(f"Paused now: {sentence(answer)}.", highlight=False, soft_wrap=True)


def paused_now(url: str, token: str) -> str:
    """Tell in one line what a system has paused, or why that is not known."""
    from cluster.client import ApiProblem, Client

    async def ask() -> "ApiProblem | list[PausedSwitch]":
        async with Client(url, token, attempt_s=STATUS_S, deadline_s=STATUS_S) as api:
            return await api.levers()

    answer = asyncio.run(ask())
    return f"unknown: the system {answer.told}" if isinstance(answer, ApiProblem) else sentence(answer)


def sentence(levers: "list[PausedSwitch]") -> str:
    """Say what is paused, since when, by whom."""
    words = []
    for lever in levers:
        since = second_of(lever.since_ms) + " UTC"
        what = lever.lever if lever.packet_id is None else f"packet {lever.packet_id}"
        but = f", but not in {', '.join(lever.missing)}" if lever.missing else ""
        words.append(f"{what} since {since} by {lever.by}{but}")
    return "; ".join(words) or "nothing"
