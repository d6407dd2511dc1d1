"""Whole renders: the examples, against golden files and the schemas of Kubernetes, and the pages for people."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from .rendering import CHART, EXAMPLES, MINIMAL, Helm, Rendered

ROOT = CHART.parents[1]
GOLDEN = Path(__file__).parent / "golden"
KUBERNETES = ["1.30", "1.37"]
"""The oldest that the chart takes, and the newest whose schemas are at hand."""
CUSTOM = {"PodMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}
CANARY = "canary-4711"

of_each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def stable(rendered: Rendered) -> str:
    """Without the alerts and the dashboards, which are held to their files by tests of their own: a changed alert
    is not a changed chart.
    """
    documents = re.split(r"^---\n", rendered.text, flags=re.MULTILINE)
    volatile = ("templates/prometheusrule.yaml", "templates/dashboards.yaml")
    kept = [text.strip() for text in documents if text.strip() and not any(name in text for name in volatile)]
    return "".join(f"---\n{text}\n" for text in kept)


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} == {"minimal", "strimzi", "monitored", "autoscaled"}


@of_each_example
def test_an_example_renders_as_it_once_was_read(helm: Helm, example: Path) -> None:
    """To change one on purpose: delete the golden file, run this, read the difference."""
    golden = GOLDEN / example.name
    rendered = stable(helm.render(example))
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(rendered, encoding="utf-8")
        pytest.fail(f"recorded {golden.name} for the first time: read it, commit it, run again")
    assert list(yaml.safe_load_all(rendered)) == list(yaml.safe_load_all(golden.read_text(encoding="utf-8")))


@pytest.mark.parametrize("version", KUBERNETES)
@of_each_example
def test_kubernetes_takes_what_is_rendered(helm: Helm, example: Path, version: str) -> None:
    checked = set()
    for manifest in helm.render(example).manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)
            checked.add(manifest["kind"])
    assert len(checked) >= 4


def test_the_schemas_of_kubernetes_would_find_something(helm: Helm) -> None:
    workload = helm.render(MINIMAL).workload
    workload["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(workload, KUBERNETES[0], strict=True)


@of_each_example
def test_helm_lint_finds_nothing(helm: Helm, example: Path) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "--values", str(example))


@of_each_example
def test_every_object_is_of_the_release_and_in_its_namespace(helm: Helm, example: Path) -> None:
    own = [
        found for found in helm.render(example, release="eu", namespace="learning").manifests
        if found["kind"] != "TriggerAuthentication"
    ]  # fmt: skip
    for manifest in own:
        assert manifest["metadata"]["namespace"] == "learning"
        assert manifest["metadata"]["name"].startswith("eu-course-sync-daemon")
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "eu"


def test_two_releases_in_one_namespace_share_no_object(helm: Helm) -> None:
    everything = next(path for path in EXAMPLES if path.stem == "monitored")

    def names(release: str) -> set[tuple[str, str]]:
        return {
            (found["kind"], found["metadata"]["name"])
            for found in helm.render(everything, release=release).manifests
        }

    assert names("eu").isdisjoint(names("us"))


@of_each_example
def test_a_secret_is_nowhere_but_in_its_file(helm: Helm, example: Path) -> None:
    """The chart names Secrets and makes none: what a user puts into one is in no manifest. A canary that stands
    where a secret is named is found in the sources of the projected volume, and not in environment, arguments
    or ConfigMap.
    """
    files = {"kombo": {"api_key_file": {"secret": CANARY}}}
    rendered = helm.render(example, {"config": files})

    assert not rendered.all("Secret")
    assert CANARY in rendered.mounted_files["/etc/course-sync-daemon/kombo.api_key_file"]
    found = [manifest["kind"] for manifest in rendered.manifests if CANARY in yaml.safe_dump(manifest)]
    assert found == [rendered.workload["kind"]]
    container = rendered.container
    assert CANARY not in yaml.safe_dump([container[key] for key in ("env", "args", "image")])
    assert "envFrom" not in container
    assert not any("secretKeyRef" in str(entry) for entry in container["env"])


def test_chart_daemon_and_image_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    version = project["version"]
    assert chart["appVersion"] == version
    assert f"\nARG VERSION={version}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for page in ("Dockerfile", "compose.yaml", "helm/course-sync-daemon/README.md"):
        tags = re.findall(r"course-sync-daemon:([0-9]\S*)", (ROOT / page).read_text(encoding="utf-8"))
        assert tags, page
        assert {tag.strip("`") for tag in tags} == {version}, page
    assert chart["kubeVersion"].startswith(">=1.30")


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    with pytest.raises(Exception, match="incompatible with Kubernetes"):
        helm.render(MINIMAL, flags=("--kube-version", "1.29.0"))


def test_the_notes_say_what_to_type_next(helm: Helm) -> None:
    def notes(*flags: str) -> str:
        example = str(CHART / "examples" / "minimal.yaml")
        words = (
            "install",
            "eu",
            str(CHART),
            "--namespace",
            "learning",
            "--values",
            example,
            "--dry-run=client",
        )
        return helm(*words, *flags).partition("NOTES:")[2]

    assert (
        "kubectl --namespace learning exec statefulset/eu-course-sync-daemon -- coursesyncd topics create "
        "--partitions 12 --replication-factor 3"
    ) in notes()
    assert "exec deployment/eu-course-sync-daemon -- coursesyncd check" in notes("--set", "kind=Deployment")
    assert "WARNING" not in notes()
    assert "PLAINTEXT" in notes("--set", "config.kafka.security_protocol=PLAINTEXT")


def shell_lines(page: Path) -> list[str]:
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [
        line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()
    ]


def test_the_commands_of_the_readme_work(helm: Helm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of Helm, run as far as a machine without a cluster can: an installation is only rendered."""
    monkeypatch.chdir(ROOT)
    ran = []
    for line in shell_lines(CHART / "README.md"):
        words = shlex.split(line)
        if words[0] != "helm":
            assert words[0] in ("kubectl", "docker", "digest=$(docker"), line
            continue
        words = [word for word in words[1:] if word not in ("--install", "--create-namespace")]
        if words[0] in ("install", "upgrade"):
            words[0] = "template"
        helm(*words)
        ran.append(words[0])
    assert {"template", "lint", "show"} <= set(ran)
