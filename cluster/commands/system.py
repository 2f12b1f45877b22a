"""System commands: start, describe and end the system of a data folder on this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cluster.commands.levers import paused_now
from cluster.commands.terminal import ANSWERED_BADLY, AsJson, Data, Sandbox, err, out, print_json, progress
from cluster.commands.tokens import RUN_TOKEN_S, SANDBOX_TENANT, tokens_of

UP_TOKEN_S = 30 * 24 * 3_600

Port = Annotated[int, typer.Option(min=0, max=65_535, help="HTTP port; 0 takes a free one.")]


def up(
    data: Data = None,
    port: Port = 0,
    config: Annotated[str | None, typer.Option(help="Configuration, a name or a .toml file; default: local.")] = None,
    store_url: Annotated[str | None, typer.Option(help="Redis or Valkey; without it our own is started.")] = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> None:
    """Start a system, or resume the one in the data folder, and leave it running."""
    from cluster import bootstrap
    from cluster.config import data_folder

    folder = data_folder(data)
    with progress("Starting") as report:
        record = bootstrap.up(folder, port=port, config=config, store_url=store_url, sandbox=sandbox, report=report)
    operator_token, gateway_token = tokens_of(folder, UP_TOKEN_S)
    if as_json:
        print_json(
            {
                "url": record.url,
                "operator_token": operator_token,
                "gateway_token": gateway_token,
                "store_url": record.store_url,
                "data": str(folder),
            }
        )
        return
    facts = Table(title="The system is up", show_header=False)
    for name, value in (("address", record.url), ("store", record.store_url), ("data folder", str(folder))):
        facts.add_row(name, value)
    out.print(facts)
    out.print(_next_steps(record.url, None if data is None else folder), markup=False, highlight=False, soft_wrap=True)


def _next_steps(url: str, folder: Path | None) -> str:
    """Write what can be pasted into a shell: users, a packet, a grab, the audit."""
    where = "" if folder is None else f" --data '{folder}'"
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

Then: hongbao audit{where} · hongbao status{where} · hongbao down{where} · the API's pages: {url}/docs
"""  # noqa: E501 - a line of shell is one line


def status(data: Data = None, as_json: AsJson = False) -> None:
    """Show whether the system of a data folder runs and is ready; exit code 1 if it is not."""
    from cluster import bootstrap
    from cluster.config import data_folder

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
    from cluster import bootstrap
    from cluster.config import data_folder

    folder = data_folder(data)
    with progress("Ending") as report:
        bootstrap.down(folder, report)
    err.print(f"Down. `hongbao up` on {folder} resumes it.", highlight=False, soft_wrap=True)
