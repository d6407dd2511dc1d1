"""Whole renders: the examples, against golden files and the schemas of Kubernetes, and the pages for people."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from daemon.config import Settings

from .rendering import CHART, EXAMPLES, MINIMAL, Helm, Rendered
from .test_chart_settings import loaded

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
    assert {path.stem for path in EXAMPLES} == {
        "minimal",
        "strimzi",
        "monitored",
        "autoscaled",
        "openshift",
        "second-release",
        "console",
    }


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


def test_the_recipe_for_two_releases_shares_nothing_that_may_not_be_shared(
    helm: Helm, tmp_path: Path
) -> None:
    def release(name: str, example: str) -> tuple[Rendered, Settings]:
        rendered = helm.render(CHART / "examples" / f"{example}.yaml", release=name)
        return rendered, loaded(rendered, tmp_path)

    (one, first), (two, second) = release("sync", "minimal"), release("sync-us", "second-release")

    assert not set(first.topics.names) & set(second.topics.names)
    assert first.kafka.group_id != second.kafka.group_id
    assert first.kafka.group_instance_id != second.kafka.group_instance_id
    assert not set(one.mounted_files.values()) & set(two.mounted_files.values())
    for name in ("app.kubernetes.io/name", "app.kubernetes.io/instance"):
        assert one.workload["spec"]["selector"]["matchLabels"][name]
    assert one.workload["spec"]["selector"] != two.workload["spec"]["selector"]
    names = [{(found["kind"], found["metadata"]["name"]) for found in each.manifests} for each in (one, two)]
    assert not names[0] & names[1]


def test_the_recipe_for_openshift_leaves_ids_to_the_cluster_and_lets_dns_through(helm: Helm) -> None:
    rendered = helm.render(CHART / "examples" / "openshift.yaml")

    assert not {"runAsUser", "runAsGroup", "fsGroup"} & rendered.pod["securityContext"].keys()
    egress = rendered.one("NetworkPolicy")["spec"]["egress"]
    (dns,) = (rule for rule in egress if {"port": 5353, "protocol": "UDP"} in rule["ports"])
    assert dns["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}}
    ]


def test_a_null_of_a_parent_chart_is_not_needed_for_openshift(helm: Helm, tmp_path: Path) -> None:
    """Helm ignores the null of a parent chart, so a default that a parent must remove would stay."""
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0"}
    values = {"course-sync-daemon": {**MINIMAL, "replicas": None}}
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "course-sync-daemon").symlink_to(CHART)
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(chart))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))

    def rendered(*flags: str) -> Rendered:
        return Rendered(helm("template", "sync", str(tmp_path), *flags))

    assert not {"runAsUser", "runAsGroup", "fsGroup"} & rendered().pod["securityContext"].keys()
    # As the chart's page says, the null works when it is given at the installation.
    assert rendered().workload["spec"]["replicas"] == 2
    taken_back = rendered(
        "--set", "course-sync-daemon.replicas=null,course-sync-daemon.config.backlog.bytes_max=null"
    )
    assert "replicas" not in taken_back.workload["spec"]
    assert "bytes_max" not in taken_back.settings_file


@of_each_example
def test_a_secret_is_nowhere_but_in_its_file(helm: Helm, example: Path) -> None:
    """The chart names Secrets and makes none: what a user puts into one is in no manifest. A canary that stands
    where a secret is named is found in the sources of the projected volume, and not in environment, arguments
    or annotations.
    """
    files = {"kombo": {"api_key_file": {"secret": CANARY}}}
    rendered = helm.render(example, {"config": files})

    assert not rendered.all("Secret")
    assert CANARY in rendered.mounted_files["/etc/course-sync-daemon/kombo.api_key_file"]
    found = [manifest["kind"] for manifest in rendered.manifests if CANARY in yaml.safe_dump(manifest)]
    assert sorted(found) == sorted(
        [rendered.workload["kind"], "Pod"]
    )  # the second one is that of `helm test`
    container = rendered.container
    assert CANARY not in yaml.safe_dump(rendered.template["metadata"])
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
    assert "exec deployment/eu-course-sync-daemon -- coursesyncd topics create" in notes(
        "--set", "kind=Deployment"
    )
    assert "helm test eu --namespace learning --logs" in notes()
    assert "WARNING" not in notes()
    assert "WARNING: replicas is 0." in notes("--set", "replicas=0")
    assert "PLAINTEXT" in notes("--set", "config.kafka.security_protocol=PLAINTEXT")


def test_the_values_of_the_readme_work(helm: Helm, tmp_path: Path) -> None:
    """Each block by itself, besides the values that must be given."""
    page = (CHART / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    for number, block in enumerate(blocks):
        folder = tmp_path / str(number)
        folder.mkdir()
        loaded(helm.render(MINIMAL, yaml.safe_load(block)), folder)


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
        if words[0] == "test":  # needs a cluster
            words = ["test", "--help"]
        helm(*words)
        ran.append(words[0])
    assert {"template", "lint", "show", "test"} <= set(ran)
