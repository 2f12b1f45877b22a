"""Scrape configuration: writes the Prometheus configuration of the system that runs on a data folder."""

from importlib.resources import files

from cluster.commands.terminal import Data, Failure
from cluster.screen import write

CLUSTER_TARGETS = """    file_sd_configs:
      - files: [/tmp/ray/prom_metrics_service_discovery.json]
"""
HEAD = """# Prometheus for the hongbao system on {data}, written by `hongbao prometheus-config`.
# Its port stays the same as long as no other system takes it: write it again after `hongbao up` if `status` says so.

"""


def prometheus_config(data: Data = None) -> None:
    """Print the Prometheus configuration of a running system: its real port, our rules."""
    from cluster.config import data_folder
    from cluster.local.record import read_record

    folder = data_folder(data)
    record = read_record(folder)
    if record is None:
        raise Failure(f"no system runs on {folder}; `hongbao up` starts it")
    write(local_config(record.ports["metrics"], str(folder)))


def local_config(port: int, data: str) -> str:
    """Return configs/prometheus.yml with one target, Ray's metrics port on this machine, and the rules by full path."""
    configs = files("configs")
    text = (configs / "prometheus.yml").read_text()
    assert CLUSTER_TARGETS in text, "the two configurations differ in their targets alone"
    targets = f'    static_configs:\n      - targets: ["127.0.0.1:{port}"]\n'
    body = text[text.index("global:") :].replace(CLUSTER_TARGETS, targets)
    return HEAD.format(data=data) + body.replace("  - alerts.yml\n", f"  - {configs / 'alerts.yml'}\n")
