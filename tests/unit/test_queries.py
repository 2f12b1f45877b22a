"""Dashboard and alert rules ask for nothing that is not exported, and leave nothing out that is."""

import re
from typing import Any

import pytest
import yaml

from actors.kernel.host import StreamFigures
from actors.kernel.metrics import Tally
from cluster.commands.scrape_config import local_config
from cluster.observability.metrics_snapshot import AuditFigures, Gatherer, StoreFigures
from cluster.observability.prometheus import HISTOGRAMS, samples
from tests.queries import CONFIGS, alert_rules, dashboard, expressions, used

LATENCIES = ("commit", "confirm", "activation", "queueing", "request")


def exported() -> dict[str, set[str]]:
    """Return every name that a system with traffic exports, as Ray writes it, with its labels."""
    gathered, tally = Gatherer(0, 1), Tally(1)
    for family in HISTOGRAMS:
        (tally.latency if family in LATENCIES else tally.size)(family, 1)
    gathered.take_shard("packet-shard-0", tally.figures())
    gathered.take_streams("packet-shard-0", [StreamFigures("packet-000", 1, 1, 0, 0, 0)], 0)
    gathered.store, gathered.audit = StoreFigures(True, 0, 1, 1, 1, 1), AuditFigures(0, 1, 0, 0, 0)
    found: dict[str, set[str]] = {}
    for sample in samples(gathered.figures(1)):
        # The exporter that Ray uses ends every counter with `_total`.
        suffix = "_total" if sample.grows and not sample.name.endswith("_total") else ""
        found.setdefault(f"ray_{sample.name}{suffix}", set()).update(name for name, _ in sample.labels)
    return found


@pytest.mark.parametrize("where", sorted(expressions()))
def test_a_query_asks_only_for_what_is_exported(where: str) -> None:
    names = exported()
    asked = used(expressions()[where])
    assert asked, "a query asks for something"
    for metric, labels in asked:
        assert metric in names, f"{metric} is not exported"
        assert labels <= names[metric], f"{metric} has no label {labels - names[metric]}"


def test_everything_that_is_exported_is_on_the_dashboard() -> None:
    shown = {one.metric for panel in dashboard()["panels"] for t in panel.get("targets", []) for one in used_of(t)}
    left_out = {name for name in exported() if name not in shown and not name.endswith("_sum_total")}
    assert not left_out


def used_of(target: dict[str, Any]) -> list[Any]:
    return used(target["expr"].replace("$__rate_interval", "1m"))


def test_the_dashboard_can_be_imported_panels_do_not_overlap_and_are_grouped_in_four_rows() -> None:
    board = dashboard()
    panels = board["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "The minute",
        "The money",
        "The store",
        "The shards",
    ]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
    [variable] = board["templating"]["list"]
    assert (variable["name"], variable["type"]) == ("datasource", "datasource")


def test_an_alert_says_what_is_wrong_how_bad_and_what_to_do() -> None:
    rules = alert_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_a_difference_between_books_wakes_somebody_at_once() -> None:
    [rule] = [rule for rule in alert_rules() if rule["alert"] == "HongbaoMoneyDiffers"]
    assert rule["labels"]["severity"] == "critical"
    assert "for" not in rule


def test_the_configuration_of_a_local_system_has_its_port_and_our_rules() -> None:
    local = yaml.safe_load(local_config(12_345, "/data"))
    cluster = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())
    [job] = local["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:12345"]}]
    [rules] = local["rule_files"]
    assert rules == str(CONFIGS / "alerts.yml")
    del job["static_configs"], cluster["scrape_configs"][0]["file_sd_configs"], local["rule_files"]
    del cluster["rule_files"]
    assert local == cluster, "otherwise the two are the same"


def test_what_a_scrape_keeps_is_all_that_is_ours() -> None:
    [job] = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())["scrape_configs"]
    [keep] = [rule for rule in job["metric_relabel_configs"] if rule["action"] == "keep"]
    assert all(re.fullmatch(keep["regex"], name) for name in exported())
    assert not re.fullmatch(keep["regex"], "ray_serve_deployment_processing_latency_ms_bucket")
    [drop] = [rule for rule in job["metric_relabel_configs"] if rule["action"] == "labeldrop"]
    ours = set().union(*exported().values()) | {"WorkerId", "NodeAddress"}
    assert not any(re.fullmatch(drop["regex"], label) for label in ours), "two series must not become one"
