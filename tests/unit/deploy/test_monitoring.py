"""What is shipped for Prometheus and Grafana: every metric that it names is exported, and the files can be read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring import FLOWERS, OURS

DEPLOY = Path(__file__).parents[3] / "deploy"
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "eo-tasks.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
KNOWN = OURS | FLOWERS | {"up"}
LABELS = {"stage", "state", "queue", "tick", "rule", "kind", "alive", "job", "host", "gpu", "name", "worker", "account"}
LABELS |= {"le", "task", "type"}
WORDS = {"by", "on", "and", "or", "sum", "max", "rate", "increase", "delta", "clamp_min", "histogram_quantile", "time"}
WORDS |= {"vector"}


def expressions() -> Iterator[tuple[str, str]]:
    for group in RULES["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))


EXPRESSIONS = list(expressions())
NAMED = [name for name, _ in EXPRESSIONS]


@pytest.mark.parametrize("expression", [expression for _, expression in EXPRESSIONS], ids=NAMED)
def test_expression_names_only_metrics_and_labels_that_there_are(expression: str):
    bare = re.sub(r'"[^"]*"', "", expression)  # without what labels are compared with
    bare = re.sub(r"\[\d+[smhd]\]", "", bare)
    words = set(re.findall(r"(?<![\d.])[a-zA-Z_][a-zA-Z0-9_]*", bare))
    assert words & KNOWN
    assert not words - KNOWN - LABELS - WORDS
    assert bare.count("(") == bare.count(")")


def test_every_metric_of_ours_is_shown():
    shown = " ".join(expression for _, expression in EXPRESSIONS)
    assert {name for name in OURS if name not in shown} == set()


def test_prometheus_reads_both_by_the_names_of_their_services():
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in PROMETHEUS["scrape_configs"]}
    assert jobs == {"eo-tasks": ["dashboard:8080"], "flower": ["flower:5555"]}
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]


def test_every_rule_says_what_happened_and_what_to_do():
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_panels_of_the_dashboard_have_ids_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = set()
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & places, panel["title"]
        places |= own


def test_dashboard_asks_which_prometheus_it_reads():
    assert [one["type"] for one in DASHBOARD["templating"]["list"]] == ["datasource"]
    for panel in PANELS:
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
