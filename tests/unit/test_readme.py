"""What the pages for people name exists: commands and options, make targets, settings, files, formats."""

import json
import re
import tomllib
from pathlib import Path

import click
import jsonschema
import pytest

from daemon.cli import main as coursesyncd
from daemon.codec import decode_change
from daemon.config import Policies, load_configuration, load_settings
from daemon.config.load import CONFIG_FILE_VARIABLE, INTEGRATIONS_FILE_VARIABLE
from daemon.config.table import all_settings, groups
from daemon.core.deactivate import DEACTIVATE
from daemon.core.model import Change, Status
from daemon.core.upsert import UPSERT
from daemon.telemetry.catalogue import CATALOGUE
from daemon.telemetry.metric import PREFIX
from tests.sandbox.cli import sandbox

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "helm/course-sync-daemon/README.md",
    *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))),
]
README = (ROOT / "README.md").read_text()

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def fenced(text: str, language: str) -> list[str]:
    """The blocks of this language, without their indentation."""
    return [
        re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
        for indent, found, block in _FENCED.findall(text)
        if found == language
    ]


def code(text: str) -> list[str]:
    """Every piece of code in a page: inline, and the lines of shell blocks."""
    inline = [piece.replace("\n", " ") for piece in _INLINE.findall(_FENCED.sub("", text))]
    return inline + [line for block in fenced(text, "sh") for line in block.splitlines()]


def all_code() -> list[str]:
    return [piece for page in PAGES for piece in code((ROOT / page).read_text())]


def matches(pattern: str) -> set[str]:
    """What the pattern's first group finds in the code of all pages. That it finds something is asserted:
    a pattern that does not fit any more would make a test that can not fail."""
    found = {match for piece in all_code() for match in re.findall(pattern, piece)}
    assert found, pattern
    return found


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert matches(r"\bmake ([a-z]+)") <= targets


def test_variables_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    given = matches(r"\b([A-Z]+)=\S") - {"CI", "KAFKA", "COURSESYNC_CONFIG"}  # read by what make calls
    given -= set(re.findall(r"^ARG ([A-Z]+)=", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert given
    assert all(f"\n{name} ?=" in makefile for name in given)


@pytest.mark.parametrize(
    ("program", "main", "at_least"),
    [(r"(\S*/)?coursesyncd\b", coursesyncd, 9), (r"(\S*/)?python -m tests\.sandbox\b", sandbox, 3)],
)
def test_commands_and_their_options_exist(program: str, main: click.Command, at_least: int) -> None:
    lines = [piece.split("#")[0] for piece in all_code() if re.match(program, piece)]
    assert len(lines) >= at_least
    for line in lines:
        command: click.Command = main
        for word in re.sub(program, "", line, count=1).split():
            if word in ("…", "--help", "--version"):
                break
            if isinstance(command, click.Group):
                command = subcommand(command, word)
            elif word.startswith("-"):
                assert word in options_of(command), line


def test_options_named_alone_exist() -> None:
    named = {piece.split()[0] for piece in code(README) if piece.startswith("--")}
    assert len(named) > 3
    assert named <= options_of(subcommand(coursesyncd, "results"))


def subcommand(group: click.Group, name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None, f"{group.name} has no {name}"
    return command


def options_of(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def log_events() -> set[str]:
    sources = "".join(path.read_text() for path in (ROOT / "daemon").rglob("*.py"))
    return set(re.findall(r'\b_?log\.\w+\(\s*"([a-z_.]+)"', sources))


def test_settings_exist() -> None:
    names = {setting.name for setting in all_settings()}
    pattern = rf"^((?:{'|'.join(groups())})\.[a-z_]+)$"
    modules = {f"{path.parent.name}.{path.stem}" for path in (ROOT / "daemon").glob("*/*.py")}
    assert matches(pattern) - modules - log_events() <= names


def test_environment_variables_exist() -> None:
    variables = {setting.variable for setting in all_settings()} | {
        CONFIG_FILE_VARIABLE,
        INTEGRATIONS_FILE_VARIABLE,
    }
    assert matches(r"\b(COURSESYNC_[A-Z_]*[A-Z])\b") <= variables


def test_metrics_exist() -> None:
    metrics = {metric.name for metric in CATALOGUE}
    series = r"(?:_bucket|_gsum|_gcount)?$"
    named = {re.sub(series, "", name) for name in matches(rf"\b({PREFIX}[a-z_]+)")}
    assert named <= metrics


def test_our_error_codes_exist() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "daemon").rglob("*.py"))
    for name in matches(r"\b(COURSESYNC\.[A-Z_]+)"):
        assert f'"{name}' in sources, name


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    for link in _LINK.findall((ROOT / page).read_text()):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def anchors(text: str) -> set[str]:
    """As a forge makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_modules_and_test_files_exist() -> None:
    """`tests/…` and `daemon/…` are meant from the root, every other one in the package."""
    for name in matches(r"(?<![\w/.])([\w/]+\.py)"):
        assert (ROOT / ("" if name.startswith(("tests/", "daemon/")) else "daemon") / name).exists(), name


def test_every_rule_of_the_code_is_told_once() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    told = re.findall(r"^\| \*\*(R\d+)\*\* \|", text, re.MULTILINE)
    used = {
        rule for path in (ROOT / "daemon").rglob("*.py") for rule in re.findall(r"\bR\d+\b", path.read_text())
    }
    assert told == sorted(used, key=lambda rule: int(rule[1:]))


def test_the_configuration_file_is_accepted(tmp_path: Path) -> None:
    block, tables = fenced(README, "toml")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    file = tmp_path / "coursesync.toml"
    file.write_text(re.sub(r'"/run/secrets/[^"]*"', f'"{secret}"', block))
    settings = load_settings({}, file)
    assert settings.kafka.bootstrap_servers == tomllib.loads(block)["kafka"]["bootstrap_servers"]
    file.write_text(tables)
    read = load_configuration({}, file, unneeded={"kafka", "kombo"})
    policy = Policies(read.settings, read.tables)("workday:HWUTwvyx2wLoSUHphiWVrp28")
    assert (policy.task.timeout, policy.batch.items_max) == (72 * 3600, 20)


def test_the_examples_of_the_formats_are_valid() -> None:
    plain, event, retired, result, course = fenced(README, "json")
    for value in (plain, event, retired):
        change = decode_change(0, None, value.encode(), (), consumed_at=0, item_bytes_max=100_000)
        assert isinstance(change, Change), change
        assert change.origin_id == "cybersecurity-101"
    validate(retired, "course-deactivation")
    validate(plain, "course-change")
    validate(event, "course-change-event")
    validate(result, "sync-result")
    validate(course, "known-course")


def test_the_examples_of_the_publishers_guide_are_valid() -> None:
    examples = fenced((ROOT / "docs/publishing.md").read_text(), "json")
    found = []
    for value in examples:
        change = decode_change(0, None, value.encode(), (), consumed_at=0, item_bytes_max=100_000)
        assert isinstance(change, Change), change
        found.append((change.operation, change.bulk))
    assert found == [(DEACTIVATE, False), (DEACTIVATE, False), (UPSERT, True)]


def validate(value: str, schema: str) -> None:
    jsonschema.validate(json.loads(value), json.loads((ROOT / f"schemas/{schema}.schema.json").read_text()))


def test_the_readers_read_what_is_committed() -> None:
    (python,) = fenced(README, "python")
    compile(python, "README.md", "exec")
    assert 'isolation_level="read_committed"' in python
    (java,) = fenced(README, "properties")
    assert "isolation.level=read_committed" in java.splitlines()


def test_every_status_is_explained() -> None:
    told = re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE)
    assert told == list(Status)
