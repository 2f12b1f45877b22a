"""Command line: starts and ends a system on this machine, and asks a running one over HTTP.

Progress, errors and hints go to stderr; what a program may read goes to stdout, with `--json` as its last line.
Only `up`, `down` and `status` know how a system is started; everything else speaks HTTP.
Exit codes: 0 as asked, 1 asked and answered badly (not clean, not ready), 2 could not be carried out, 130 interrupted.

Heavy imports (Ray, aiohttp, pydantic) stay inside the commands: `hongbao --help` answers at once.
"""

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from loadtest.client import Audit
    from loadtest.demo import Target

OPERATOR = "operator"
GATEWAY = "gateway"
PLATFORM_TENANT = "platform"
SANDBOX_TENANT = "wechat"
UP_TOKEN_S = 30 * 24 * 3_600
RUN_TOKEN_S = 3_600
TOKEN_S_MAX = 366 * 24 * 3_600
KEYS_FILE = "keys.json"

ANSWERED_BADLY = 1
COULD_NOT = 2
INTERRUPTED = 130
TERMINATED = 143

PLAIN_WIDTH = 120

Data = Annotated[Path | None, typer.Option("--data", help="Data folder; without it your own default one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object in the last line.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="HTTP port; 0 takes a free one.")]
Config = Annotated[str, typer.Option(help="Configuration: a name in configs/, or the path of a .toml file.")]

app = typer.Typer(
    name="hongbao",
    help="Red packets on Ray: exact, durable, fair under a hot key.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else PLAIN_WIDTH)


class Failure(Exception):
    """The command could not be carried out; the sentence is all that its user needs."""


def main() -> None:
    """Run the command line; the entry point `hongbao`."""
    if not __debug__:
        sys.exit("hongbao: refuses to run without assertions; start it without python -O and PYTHONOPTIMIZE")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _terminate)
    from actors.errors import OperatingFailure

    try:
        app()
    except (Failure, OperatingFailure, OSError, ValueError) as failure:
        _fail(failure)
    except RuntimeError as failure:
        if type(failure) is RuntimeError:
            raise  # a bug, not an operating failure
        _fail(failure)


def _fail(failure: BaseException) -> NoReturn:
    """Print a failure as one line and exit."""
    sentence = " ".join(str(failure).split()) or type(failure).__name__
    err.print(f"hongbao: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(COULD_NOT)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C, so that what was started is ended."""
    sys.exit(TERMINATED)


# A system on this machine


@app.command()
def up(
    data: Data = None,
    port: Port = 0,
    config: Config = "local",
    store_url: Annotated[str | None, typer.Option(help="Redis or Valkey; without it our own is started.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start a system, or resume the one in the data folder, and leave it running."""
    from cluster import bootstrap
    from cluster.config import data_folder

    folder = data_folder(data)
    with _progress("Starting") as report:
        record = bootstrap.up(folder, port=port, config=config, store_url=store_url, report=report)
    operator_token, gateway_token = _tokens_of(folder, UP_TOKEN_S)
    if as_json:
        _print_json(
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


@app.command()
def status(data: Data = None, as_json: AsJson = False) -> None:
    """Show whether the system of a data folder runs and is ready; exit code 1 if it is not."""
    from cluster import bootstrap
    from cluster.config import data_folder

    found = bootstrap.status(data_folder(data))
    facts = found.model_dump(mode="json")
    if as_json:
        _print_json(facts)
    else:
        table = Table(title=str(data_folder(data)), show_header=False)
        for name, value in facts.items():
            table.add_row(name.replace("_", " "), value if isinstance(value, str) else json.dumps(value))
        out.print(table)
    if not found.ready:
        raise typer.Exit(ANSWERED_BADLY)


@app.command()
def down(data: Data = None) -> None:
    """End the system of a data folder. Its money stays in the folder; `up` resumes it."""
    from cluster import bootstrap
    from cluster.config import data_folder

    folder = data_folder(data)
    with _progress("Ending") as report:
        bootstrap.down(folder, report)
    err.print(f"Down. `hongbao up` on {folder} resumes it.", highlight=False, soft_wrap=True)


# Asking a running system


@app.command()
def audit(
    url: Annotated[str | None, typer.Option(help="Address of the system, with --token.")] = None,
    token: Annotated[str | None, typer.Option(help="An operator's token.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show the conservation report of a running system; exit code 1 if it is not clean."""
    from loadtest.client import Api, Problem

    if url is None:
        url, token = _operator_of(data)
    elif token is None:
        raise Failure("--url needs --token, an operator's (hongbao token --scope operator)")

    async def ask(address: str, operator_token: str) -> "Audit | Problem":
        async with Api(address, operator_token, deadline_s=20.0) as api:
            return await api.audit()

    assert token is not None, "either given or minted"
    with _progress("Reading every book"):
        report = asyncio.run(ask(url, token))
    if isinstance(report, Problem):
        raise Failure(f"{url} does not answer the audit: {report.code} (status {report.status})")
    if as_json:
        import msgspec

        _print_json(msgspec.to_builtins(report))
    else:
        _show_audit(report)
    if not report.clean:
        raise typer.Exit(ANSWERED_BADLY)


def _show_audit(report: "Audit") -> None:
    columns = ("book_sum_fen", "funded_fen", "paid_fen", "refunded_fen", "remaining_fen")
    table = Table(title="Conservation, in fen")
    table.add_column("stream")
    for name in (*columns, "version"):
        table.add_column(name.removesuffix("_fen").replace("_", " "), justify="right")
    for shard in report.shards:
        table.add_row(shard.stream, *(f"{getattr(shard, name):,}" for name in columns), f"{shard.version:,}")
    table.add_section()
    totals = (f"{getattr(report, name):,}" for name in columns[1:])
    table.add_row("all", f"{sum(shard.book_sum_fen for shard in report.shards):,}", *totals, "")
    out.print(table)
    out.print(
        f"in flight {report.in_flight_fen:,} fen · settlement lag {report.settlement_lag_ms:,} ms · "
        f"difference {report.difference_fen:,} fen · {'clean' if report.clean else 'NOT CLEAN'}",
        style="green" if report.clean else "red",
        highlight=False,
    )


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long packets are sent.")] = 30.0,
    users: Annotated[int, typer.Option(min=2, max=100_000, help="How many users take part.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Names who sends what to whom.")] = 2_016,
    connections: Annotated[int, typer.Option(min=1, max=1_024, help="How many requests at once.")] = 64,
    url: Annotated[str | None, typer.Option(help="A running system instead of one of the demo's own.")] = None,
    operator_token: Annotated[str | None, typer.Option(help="With --url.")] = None,
    gateway_token: Annotated[str | None, typer.Option(help="With --url; of tenant wechat.")] = None,
    data: Annotated[Path | None, typer.Option(help="With --url: mint both tokens from this folder's keys.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the minute 00:05 of 2016-01-01 and account for every fen; exit code 0 only if all of it is clean."""
    import msgspec

    from loadtest.demo import DemoFailed, Options, Target, replay
    from loadtest.display import show

    options = Options(seconds=seconds, users=users, seed=seed, connections_max=connections)
    try:
        with contextlib.ExitStack() as ended_with_us:
            if url is None:
                if operator_token or gateway_token or data:
                    raise Failure("--operator-token, --gateway-token and --data go with --url")
                target = ended_with_us.enter_context(_own_system())
            else:
                if data is not None:
                    operator_token, gateway_token = _tokens_of(data.absolute(), RUN_TOKEN_S)
                if operator_token is None or gateway_token is None:
                    raise Failure("--url needs --operator-token and --gateway-token, or --data to mint them")
                target = Target(url, operator_token, gateway_token, fresh=False)
            outcome = replay(target, options, err)
            show(outcome, err if as_json else out)
    except DemoFailed as failure:
        raise Failure(str(failure)) from failure
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        _print_json(msgspec.to_builtins(outcome.figures))
    if not outcome.clean:
        raise typer.Exit(ANSWERED_BADLY)


@contextlib.contextmanager
def _own_system() -> Iterator["Target"]:
    """Run a system in a temporary folder and leave nothing of it behind, however this ends."""
    from cluster import bootstrap
    from loadtest.demo import Target

    folder = Path(tempfile.mkdtemp(prefix="hongbao-demo-"))
    try:
        with _progress("Starting a system for the demo") as report:
            record = bootstrap.up(folder, report=report)
        operator_token, gateway_token = _tokens_of(folder, RUN_TOKEN_S)
        yield Target(record.url, operator_token, gateway_token, fresh=True)
    finally:
        # From here nothing interrupts: a half-ended system would stay for ever. `down` is bounded itself.
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, _unmoved)
        with _progress("Ending the demo's system") as report:
            bootstrap.down(folder, report)
        shutil.rmtree(folder, ignore_errors=True)


def _unmoved(number: int, frame: FrameType | None) -> None:
    """Note a signal and go on ending; unlike SIG_IGN it is not inherited by what `down` may run."""


@app.command()
def token(
    user: Annotated[str, typer.Option(help="User id; an operator or gateway has a name too.")] = "",
    tenant: Annotated[str, typer.Option(help="Tenant, e.g. wechat.")] = "",
    scope: Annotated[str, typer.Option(help="user, gateway or operator.")] = "user",
    ttl: Annotated[int, typer.Option(min=1, max=TOKEN_S_MAX, help="Seconds until it expires.")] = 24 * 3_600,
    data: Data = None,
) -> None:
    """Mint a token from the keys of a data folder."""
    from cluster.config import data_folder, keys_at
    from cluster.tokens import mint

    if scope == "user" and not (user and tenant):
        raise Failure("a user's token needs --user and --tenant")
    path = data_folder(data) / KEYS_FILE
    if not path.exists():
        raise Failure(f"{path} does not exist; `hongbao up` on this data folder creates the keys")
    tenant = tenant or (PLATFORM_TENANT if scope == OPERATOR else SANDBOX_TENANT)
    text = mint(keys_at(path), user=user or scope, tenant=tenant, scope=scope, now_s=int(time.time()), ttl_s=ttl)
    sys.stdout.write(f"{text}\n")


# A cluster of your own


@app.command()
def serve_config(
    store_url: Annotated[
        str | None, typer.Option(help="Redis or Valkey of the cluster; default: the config's.")
    ] = None,
    config: Config = "local",
    keys_file: Annotated[Path | None, typer.Option(help="Keys file, at the same path on every node.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="HTTP port on every node.")] = 8_000,
) -> None:
    """Print the YAML for `serve deploy` on a Ray cluster that already runs."""
    from cluster.config import SERVE_ENVIRONMENT, config_path, data_folder, load

    settings = load(config)
    store_url = store_url or settings.store_url
    if not store_url:
        raise Failure(f"configuration {config!r} names no store; give --store-url redis://host:port/0")
    keys_path = (keys_file or data_folder() / KEYS_FILE).absolute()
    environment = " ".join(f"{name}={value}" for name, value in SERVE_ENVIRONMENT.items())
    named = str(config_path(config).absolute()) if config.endswith(".toml") else config
    sys.stdout.write(f"""\
# hongbao on a running Ray cluster: hongbao serve-config … > hongbao.yaml && serve deploy hongbao.yaml
# Set these three variables on every node BEFORE Ray starts there, or the application refuses to start:
#   {environment}
# The keys file must be at the same path on every node, mode 0600.
proxy_location: EveryNode
http_options:
  host: {json.dumps(settings.host)}
  port: {port}
logging_config:
  enable_access_log: false
  log_level: WARNING
applications:
  - name: hongbao
    route_prefix: /
    import_path: cluster.gateway.app:app
    args:
      store_url: {json.dumps(store_url)}
      config: {json.dumps(named, ensure_ascii=False)}
      keys_file: {json.dumps(str(keys_path), ensure_ascii=False)}
""")


# Shared


def _tokens_of(folder: Path, ttl_s: int) -> tuple[str, str]:
    """Mint an operator's and the sandbox gateway's token from a data folder's keys."""
    from cluster.config import keys_at
    from cluster.tokens import mint

    path = folder / KEYS_FILE
    if not path.exists():
        raise Failure(f"{path} does not exist: that is not the data folder of a system")
    keys, now_s = keys_at(path), int(time.time())
    return (
        mint(keys, user=OPERATOR, tenant=PLATFORM_TENANT, scope=OPERATOR, now_s=now_s, ttl_s=ttl_s),
        mint(keys, user=GATEWAY, tenant=SANDBOX_TENANT, scope=GATEWAY, now_s=now_s, ttl_s=ttl_s),
    )


def _operator_of(data: Path | None) -> tuple[str, str]:
    """Return the address of the system that runs on a data folder, and a token for its operator."""
    from cluster import bootstrap
    from cluster.config import data_folder

    folder = data_folder(data)
    url = bootstrap.status(folder).url
    if not url:
        raise Failure(f"no system runs on {folder}; `hongbao up` starts it, or give --url and --token")
    return url, _tokens_of(folder, RUN_TOKEN_S)[0]


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: a spinner on a terminal, plain lines elsewhere."""
    if not err.is_terminal:
        yield lambda words: err.print(f"{what}: {words}", markup=False, highlight=False, soft_wrap=True)
        return
    with err.status(f"{what} …") as spinner:
        yield lambda words: spinner.update(f"{what}: {words}")


def _print_json(content: object) -> None:
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
