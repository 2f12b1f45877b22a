"""System commands: start, describe and end the system of a data folder on this machine."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cluster.commands.switches import paused_now
from cluster.commands.terminal import ANSWERED_BADLY, AsJson, Data, Failure, Sandbox, err, out, print_json, progress
from cluster.commands.tokens import RUN_TOKEN_S, SANDBOX_TENANT, tokens_of

UP_TOKEN_S = 30 * 24 * 3_600

Port = Annotated[int, typer.Option(min=0, max=65_535, help="HTTP port; 0 takes a free one.")]


def up(
    data: Data = None,
    port: Port = 0,
    config: Annotated[str | None, typer.Option(help="Configuration, a name or a .toml file; default: local.")] = None,
    store_url: Annotated[str | None, typer.Option(help="Redis or Valkey; without it our own is started.")] = None,
    sandbox: Sandbox = None,
    with_tokens: Annotated[
        bool, typer.Option("--with-tokens", help="With --json: print two tokens of 30 days, and the store's password.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start a system, or resume the one in the data folder, and leave it running."""
    if with_tokens and not as_json:
        raise Failure("--with-tokens goes with --json; `hongbao token` mints one for people")
    from cluster.config import data_folder
    from cluster.local import bootstrap
    from cluster.store import shown

    folder = data_folder(data)
    try:
        with progress("Starting") as report:
            record = bootstrap.up(folder, port=port, config=config, store_url=store_url, sandbox=sandbox, report=report)
    except (KeyboardInterrupt, SystemExit):
        err.print(f"Interrupted. {_left_of(folder)}", highlight=False, soft_wrap=True)
        raise
    facts = {"url": record.url, "store_url": shown(record.store_url), "data": str(folder)}
    if as_json:
        if with_tokens:
            operator_token, gateway_token = tokens_of(folder, UP_TOKEN_S)
            facts["store_url"] = record.store_url
            facts |= {"operator_token": operator_token, "gateway_token": gateway_token}
        print_json(facts)
        return
    table = Table(title="The system is up", show_header=False)
    for name, value in (*facts.items(), ("sandbox", "on" if record.sandbox else "off")):
        table.add_row({"url": "address", "store_url": "store", "data": "data folder"}.get(name, name), value)
    out.print(table)
    where = "" if data is None else f" --data {shlex.quote(str(folder))}"
    if record.sandbox:
        out.print(_first_steps(record.url, where), highlight=False, soft_wrap=True)
    then = (
        f"Then: hongbao audit{where} · hongbao status{where} · hongbao down{where} · the API's pages: {record.url}/docs"
    )
    out.print(f"\n{then}", highlight=False, soft_wrap=True)


def _left_of(folder: Path) -> str:
    """Say what an interrupted start has left behind."""
    from cluster.local.record import read_record

    if read_record(folder) is None:
        return f"Nothing was left running; what {folder} holds is as durable as before."
    return f"A system that was there before runs on {folder} as it did: `hongbao status` shows it."


def _first_steps(url: str, where: str) -> str:
    """Write what can be pasted into a shell: users, a packet, a grab."""
    body = "-H 'Content-Type: application/json' -d"
    return f"""
Two users, a packet for three, a grab (paste it):

  URL={url}
  OPERATOR=$(hongbao token --scope operator{where})
  LI=$(hongbao token --user li --tenant {SANDBOX_TENANT}{where})
  MEI=$(hongbao token --user mei --tenant {SANDBOX_TENANT}{where})
  curl -sw '\\n' $URL/sandbox/users -H "Authorization: Bearer $OPERATOR" {body} '{{"user": "li", "tenant": "{SANDBOX_TENANT}", "balance_fen": 10000}}'
  PACKET=$(curl -s $URL/v1/packets -H "Authorization: Bearer $LI" -H "Idempotency-Key: $(date +%s%N)" {body} '{{"kind": "lucky", "total_fen": 888, "count": 3}}' | grep -o '[a-z2-7]\\{{32\\}}' | head -1)
  curl -sw '\\n' $URL/v1/packets/$PACKET/grabs -H "Authorization: Bearer $MEI" {body} '{{}}'
  curl -sw '\\n' $URL/v1/packets/$PACKET -H "Authorization: Bearer $LI"
"""  # noqa: E501 - a line of shell is one line


def status(data: Data = None, as_json: AsJson = False) -> None:
    """Show whether the system of a data folder runs and is ready; exit code 1 if it is not."""
    from cluster.config import data_folder
    from cluster.local import bootstrap

    found = bootstrap.status(data_folder(data))
    facts = found.model_dump(mode="json")
    if found.ready:
        facts["paused"] = paused_now(found.url, tokens_of(found.data, RUN_TOKEN_S)[0])
    if as_json:
        print_json(facts)
    else:
        table = Table(title=str(data_folder(data)), show_header=False)
        for name, value in facts.items():
            table.add_row(name.replace("_", " "), value if isinstance(value, str) else json.dumps(value))
        out.print(table)
    if not found.ready:
        raise typer.Exit(ANSWERED_BADLY)


def down(data: Data = None) -> None:
    """End the system of a data folder. Its money stays in the folder; `up` resumes it."""
    from cluster.config import data_folder
    from cluster.local import bootstrap

    folder = data_folder(data)
    with progress("Ending") as report:
        bootstrap.down(folder, report)
    err.print(f"Down. `hongbao up` on {folder} resumes it.", highlight=False, soft_wrap=True)
