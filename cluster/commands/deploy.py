"""Serve configuration: what a Ray cluster of your own needs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.terminal import Config, Failure, Sandbox
from cluster.screen import write


def serve_config(
    store_url: Annotated[
        str | None, typer.Option(help="Redis or Valkey of the cluster; default: the config's.")
    ] = None,
    config: Config = "cluster",
    sandbox: Sandbox = None,
    keys_file: Annotated[Path | None, typer.Option(help="Keys file, at the same path on every node.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="HTTP port on every node.")] = 8_000,
) -> None:
    """Print the YAML for `serve deploy` on a Ray cluster that already runs."""
    from cluster.config import KEYS_FILE, SERVE_ENVIRONMENT, config_path, data_folder, load, sandbox_of

    settings = load(config)
    store_url = store_url or settings.store_url
    if not store_url:
        raise Failure(f"configuration {config!r} names no store; give --store-url redis://host:port/0")
    sandbox = sandbox_of(settings, sandbox, own_store=False)
    keys_path = (keys_file or data_folder() / KEYS_FILE).absolute()
    environment = " ".join(f"{name}={value}" for name, value in SERVE_ENVIRONMENT.items())
    named = str(config_path(config).absolute()) if config.endswith(".toml") else config
    write(f"""\
# hongbao on a running Ray cluster: hongbao serve-config … > hongbao.yaml && serve deploy hongbao.yaml
# Set these {len(SERVE_ENVIRONMENT)} variables on every node BEFORE Ray starts there, or nothing starts:
#   {environment}
# The keys file must be at the same path on every node, mode 0600: copied there, or for a new system made once by
#   hongbao keys --new --keys-file {keys_path}
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
      sandbox: {json.dumps(sandbox)}
      keys_file: {json.dumps(str(keys_path), ensure_ascii=False)}
""")
