"""The alert rules that ship: each goes off when it should and at no other time, and has its section of the runbook.

`tests/alerts/` has promtool's own tests, one file for each alert. That they would notice if a rule were another is
tried here: rules that are changed in one place are put in the place of the file that ships.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.promql import Shown, of_a_running_daemon, selectors

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm" / "course-sync-daemon" / "files" / "alerts.yaml"
TESTS = ROOT / "tests" / "alerts"
SHIPPED = "../../helm/course-sync-daemon/files/alerts.yaml"
"""As each test file names it."""
JOB = 'job="course-sync-daemon"'


class Rule(NamedTuple):
    name: str
    text: str
    """From its name to the next rule."""

    @property
    def expression(self) -> str:
        found = re.search(r"\n {8}expr: (\|\n(?: {10}.*\n)+|.*\n)", self.text)
        assert found is not None, self.name
        return found[1].removeprefix("|\n")

    def field(self, name: str) -> str:
        found = re.search(rf"\n +{name}: (.*(?:\n {{12}}.*)*)", self.text)
        assert found is not None, f"{self.name} has no {name}"
        return found[1]


def rules() -> list[Rule]:
    _, *blocks = re.split(r"\n {6}- alert: ", RULES.read_text(encoding="utf-8"))
    return [Rule(block.partition("\n")[0], block) for block in blocks]


each_rule = pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)


def run(promtool: str, *arguments: str | Path) -> tuple[bool, str]:
    done = subprocess.run(
        [promtool, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd=TESTS
    )
    return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def shown() -> Shown:
    return asyncio.run(of_a_running_daemon())


# --- form -----------------------------------------------------------------------------------------


def test_promtool_understands_all_of_them(promtool: str) -> None:
    passed, said = run(promtool, "check", "rules", RULES)
    assert passed, said
    assert f"{len(rules())} rules found" in said, "this test sees all of them"


@each_rule
def test_each_has_what_a_receiver_needs(rule: Rule) -> None:
    assert re.fullmatch(r"CourseSync([A-Z][a-z]+)+", rule.name)
    assert rule.field("severity") in {"critical", "warning", "info"}
    assert re.fullmatch(r"[1-9]\d*m", rule.field("for"))
    assert "{{" not in rule.field("summary"), "the same for all that is grouped"
    assert "{{" in rule.field("description")
    assert rule.field("runbook_url") == f"docs/runbook.md#{rule.name.lower()}"


@each_rule
def test_each_looks_at_our_job_only_and_at_what_a_running_daemon_shows(rule: Rule, shown: Shown) -> None:
    asked = selectors(rule.expression)
    assert asked
    for selector in asked:
        assert ("job", "=", "course-sync-daemon") in selector.matchers
        assert shown.missing(selector) is None


@each_rule
def test_ages_are_those_at_the_scrape(rule: Rule) -> None:
    """`time()` adds up to one scrape interval, which a threshold would have to leave room for."""
    assert "time()" not in rule.expression


def test_each_has_its_section_of_the_runbook_and_each_section_an_alert() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    sections = re.findall(r"^#+ (CourseSync\w+)$", runbook, re.MULTILINE)
    assert sections == [rule.name for rule in rules()]
    # The dashboard can only link to the name as it is written; the anchor of a heading is in small letters.
    assert re.findall(r'^<a id="(\w+)"></a>\n\n#+ \1$', runbook, re.MULTILINE) == sections


def test_the_runbook_asks_for_what_a_running_daemon_shows(shown: Shown) -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    asked = [selector for span in re.findall(r"`([^`]+)`", runbook) for selector in selectors(span)]
    assert len(asked) > 20
    assert [missing for selector in asked if (missing := shown.missing(selector))] == []


# --- when they fire -------------------------------------------------------------------------------


def test_each_has_its_tests() -> None:
    assert {path.stem for path in TESTS.glob("CourseSync*.yaml")} == {rule.name for rule in rules()}


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_they_fire_and_stay_quiet_as_their_tests_say(path: Path, promtool: str) -> None:
    assert SHIPPED in path.read_text(encoding="utf-8")
    passed, said = run(promtool, "test", "rules", path)
    assert passed, said


WITH_NAMESPACES = [
    path for path in sorted(TESTS.glob("*.yaml")) if 'namespace="' in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", WITH_NAMESPACES, ids=lambda path: path.stem)
def test_they_tell_releases_apart_as_they_do_namespaces(path: Path, promtool: str, tmp_path: Path) -> None:
    """The same tests, in which each namespace is a release instead, all of them in one namespace."""
    text = path.read_text(encoding="utf-8").replace(SHIPPED, str(RULES))
    text = re.sub(r" in namespace (\w+)", r" (release \1)", text.replace(r"\n", " "))
    text = text.partition("  - name: two releases in one namespace")[0].partition(
        "  - name: none of one release"
    )[0]
    text = re.sub(r"\bnamespace(?==|:|,)", "release", text)
    assert "namespace" not in re.sub(r"(?m)#.*|name: .*", "", text)
    (tmp_path / path.name).write_text(text, encoding="utf-8")
    passed, said = run(promtool, "test", "rules", tmp_path / path.name)
    assert passed, said


@each_rule
def test_what_is_computed_over_replicas_is_computed_per_release(rule: Rule) -> None:
    for grouped in re.findall(r"\bby \(([^)]*)\)", rule.expression):
        assert {"job", "namespace", "release"} <= set(grouped.split(", "))
    if "$labels.instance" not in rule.text:
        assert "$labels.release" in rule.text


def test_the_healthy_daemon_has_all_that_the_rules_look_at() -> None:
    asked = {selector.metric for rule in rules() for selector in selectors(rule.expression)}
    healthy = (TESTS / "healthy.yaml").read_text(encoding="utf-8")
    assert asked <= {selector.metric for selector in selectors(healthy)}


def test_an_idle_daemon_sets_off_none(promtool: str, shown: Shown, tmp_path: Path) -> None:
    """What a daemon shows that has done its work, for two days; clocks of the test begin at 0, so timestamps do too."""
    names = {selector.metric for rule in rules() for selector in selectors(rule.expression)} - {"up"}
    idle = [{"series": f"up{{{JOB}}}", "values": "1x576"}]
    for series, value in shown.values.items():
        name, _, labels = series.partition("{")
        if name in names:
            at = "1" if name.endswith("timestamp_seconds") and float(value) else value
            if name == "coursesync_control_read_timestamp_seconds":
                at = "1+300"  # it is read all the time
            idle.append({"series": f"{name}{{{JOB},{labels or '}'}", "values": f"{at}x576"})
    assert names <= {line["series"].partition("{")[0] for line in idle}
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "5m",
        "tests": [
            {
                "interval": "5m",
                "input_series": idle,
                "promql_expr_test": [
                    {"eval_time": "2d", "expr": 'max_over_time(ALERTS{alertstate="firing"}[47h])'},
                ],
            }
        ],
    }
    path = tmp_path / "idle.yaml"
    path.write_text(json.dumps(test), encoding="utf-8")
    passed, said = run(promtool, "test", "rules", path)
    assert passed, said


# --- their tests would notice ---------------------------------------------------------------------


def mutants(rule: Rule) -> Iterator[tuple[str, str]]:
    """What is changed, and the rule with the change."""
    expression, wait = rule.expression, int(rule.field("for").removesuffix("m"))
    other = "|\n          vector(0) == 1\n"
    yield (
        "never fires",
        rule.text.replace(f"expr: {expression}", f"expr: {other}").replace(
            f"expr: |\n{expression}", f"expr: {other}"
        ),
    )
    shift = min(wait, 5)  # the step of the coarsest test
    yield "fires sooner", rule.text.replace(f"for: {wait}m", f"for: {wait - shift}m")
    yield "fires later", rule.text.replace(f"for: {wait}m", f"for: {wait + shift}m")
    yield "any job", rule.text.replace(JOB, 'job!=""')
    for changed, to in changes(expression):
        yield changed, rule.text.replace(expression, to)


def changes(expression: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"[<>] (\d+(?:\.\d+)?(?: \* \d+)?)$", expression, re.MULTILINE):
        threshold = math.prod(float(factor) for factor in found[1].split(" * "))
        if threshold:
            small = 1 < threshold < 10  # a number of things
            for other in (threshold - 1, threshold + 1) if small else (threshold * 0.95, threshold * 1.05):
                yield f"{found[1]} is {other:g}", put(expression, found.span(1), f"{other:g}")
    for found in re.finditer(r" > 0(?![\d.])", expression):
        yield f"no '> 0' at {found.start()}", put(expression, found.span(), "")
    for found in re.finditer(r"^ {10}(?:and|or)\n", expression, re.MULTILINE):
        yield f"only what stands before {found[0].strip()}", expression[: found.start()]
        yield f"only what stands behind {found[0].strip()}", expression[found.end() :]


def put(text: str, span: tuple[int, int], new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


@each_rule
def test_its_tests_notice_each_change_of_it(rule: Rule, promtool: str, tmp_path: Path) -> None:
    """Alone in a file, as no other rule fires in its tests."""
    head, *_ = RULES.read_text(encoding="utf-8").partition("\n      - alert: ")
    test = (TESTS / f"{rule.name}.yaml").read_text(encoding="utf-8")
    (tmp_path / "test.yaml").write_text(test.replace(SHIPPED, "rules.yaml"), encoding="utf-8")

    def passes(text: str) -> bool:
        (tmp_path / "rules.yaml").write_text(f"{head}\n      - alert: {text}", encoding="utf-8")
        passed, said = run(promtool, "test", "rules", tmp_path / "test.yaml")
        assert "could not parse" not in said, said
        return passed

    assert passes(rule.text)
    survived = []
    for changed, text in mutants(rule):
        assert text != rule.text, changed
        if passes(text):
            survived.append(changed)
    assert survived == []
