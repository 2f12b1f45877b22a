"""Queries: every PromQL expression of the dashboard and the alert rules, and which names and labels it uses."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import promql_parser
import yaml

CONFIGS = files("configs")
GRAFANA_VARIABLES = {"$__rate_interval": "1m"}


class Used(NamedTuple):
    """One selector of a query: a metric, and the labels asked of it by matchers and by the aggregations around it."""

    metric: str
    labels: frozenset[str]


def dashboard() -> dict[str, Any]:
    """Return the Grafana dashboard."""
    return dict(json.loads((CONFIGS / "grafana-dashboard.json").read_text()))


def alert_rules() -> list[dict[str, Any]]:
    """Return every alert rule."""
    groups = yaml.safe_load((CONFIGS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Return every expression by where it stands."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in alert_rules()}
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for variable, value in GRAFANA_VARIABLES.items():
                expression = expression.replace(variable, value)
            found[f"panel {panel['title']} {target['refId']}"] = expression
    return found


def used(expression: str) -> list[Used]:
    """Return every selector of an expression. Raises ValueError if it is no PromQL."""
    return list(_walk(promql_parser.parse(expression), frozenset()))


def _walk(node: Any, labels: frozenset[str]) -> Iterator[Used]:
    match node:
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case promql_parser.VectorSelector():
            asked = {matcher.name for matcher in node.matchers.matchers}
            yield Used(node.name or "", labels | asked)
        case promql_parser.MatrixSelector():
            yield from _walk(node.vector_selector, labels)
        case promql_parser.AggregateExpr():
            grouped = frozenset(node.modifier.labels) if node.modifier is not None else frozenset()
            yield from _walk(node.expr, labels | grouped)
        case promql_parser.Call():
            for argument in node.args:
                yield from _walk(argument, labels)
        case promql_parser.BinaryExpr():
            yield from _walk(node.lhs, labels)
            yield from _walk(node.rhs, labels)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from _walk(node.expr, labels)
        case _:
            raise AssertionError(f"{type(node).__name__} is not understood; teach it to this walk")
