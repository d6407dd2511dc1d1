"""The chart as Helm renders it, read back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm" / "course-sync-daemon"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))

Values = Mapping[str, Any]
Manifest = dict[str, Any]

MINIMAL: Values = {
    "config": {
        "kafka": {"bootstrap_servers": "kafka.example.com:9093"},
        "kombo": {"api_key_file": {"secret": "course-sync-kombo"}},
    }
}

OAUTHBEARER: dict[str, Any] = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "OAUTHBEARER",
    "sasl_oauth_token_url": "https://idp.example.com/token",
    "sasl_oauth_client_id": "course-sync",
    "sasl_oauth_client_secret_file": {"secret": "idp"},
}
AWS_MSK_IAM: dict[str, Any] = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "AWS_MSK_IAM",
    "sasl_aws_region": "eu-central-1",
}
"""Logins with tokens: settings of the group `kafka`."""


class HelmError(Exception):
    """What Helm said when it refused."""


class Rendered:
    """What a user would apply: the manifests, and the text that they were read from."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.manifests: list[Manifest] = [found for found in yaml.load_all(text, yaml.CSafeLoader) if found]

    def all(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str) -> Manifest:
        (manifest,) = self.all(kind)
        return manifest

    def named(self, kind: str, name: str) -> Manifest:
        (manifest,) = (each for each in self.all(kind) if each["metadata"]["name"] == name)
        return manifest

    @property
    def kinds(self) -> set[str]:
        return {manifest["kind"] for manifest in self.manifests}

    @property
    def workload(self) -> Manifest:
        """Of the daemon."""
        workloads = (*self.all("StatefulSet"), *self.all("Deployment"))
        (manifest,) = (each for each in workloads if not each["metadata"]["name"].endswith("-console"))
        return manifest

    @property
    def template(self) -> Manifest:
        """The pod template."""
        template: Manifest = self.workload["spec"]["template"]
        return template

    @property
    def pod(self) -> Manifest:
        """The pod's spec."""
        pod: Manifest = self.template["spec"]
        return pod

    @property
    def container(self) -> Manifest:
        container: Manifest
        (container,) = self.pod["containers"]
        return container

    @property
    def environment(self) -> dict[str, Any]:
        """Of the container; a variable that is no text has the field that it comes from."""
        return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in self.container["env"]}

    @property
    def settings_file(self) -> str:
        """The TOML text that the daemon reads: an annotation of the pod, mounted as a file."""
        (path,) = (
            item["fieldRef"]["fieldPath"]
            for source in self._mounted_sources
            for item in source.get("downwardAPI", {}).get("items", ())
            if item["path"] == "coursesync.toml"
        )
        text: str = self.template["metadata"]["annotations"][path.split("'")[1]]
        return text

    @property
    def mounted_files(self) -> dict[str, tuple[str, str, str]]:
        """By path in the container: kind and name of what it comes from, and the key in it. Without what the chart makes."""
        (mount,) = (found for found in self.container["volumeMounts"] if found["name"] == "settings")
        return {
            f"{mount['mountPath']}/{item['path']}": (kind, origin["name"], item["key"])
            for source in self._mounted_sources
            for kind, origin in source.items()
            if kind != "downwardAPI"
            for item in origin["items"]
            if item["path"] != "integrations.toml"
        }

    @property
    def integrations_file(self) -> str:
        """The TOML text with the settings of single integrations: a ConfigMap, mounted beside the other file."""
        (origin,) = (
            source["configMap"]
            for source in self._mounted_sources
            if any(
                item["path"] == "integrations.toml" for item in source.get("configMap", {}).get("items", ())
            )
        )
        (item,) = origin["items"]
        text: str = self.named("ConfigMap", origin["name"])["data"][item["key"]]
        return text

    @property
    def _mounted_sources(self) -> list[dict[str, Any]]:
        (volume,) = (found for found in self.pod["volumes"] if found["name"] == "settings")
        sources: list[dict[str, Any]] = volume["projected"]["sources"]
        return sources


class Helm:
    def __init__(self, binary: Path) -> None:
        self._binary = binary

    def __call__(self, *words: str, stdin: str = "") -> str:
        """What it printed.

        Raises:
            HelmError: with what it said on stderr.
        """
        done = subprocess.run(
            [self._binary, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise HelmError(done.stderr)
        return done.stdout

    def render(
        self,
        *values: Values | Path,
        release: str = "sync",
        namespace: str = "prod",
        flags: tuple[str, ...] = (),
    ) -> Rendered:
        """`helm template` with these values, the later ones over the earlier ones.

        Raises:
            HelmError
        """
        merged: dict[str, Any] = {}
        for more in values:
            merged = _over(merged, yaml.safe_load(more.read_text()) if isinstance(more, Path) else more)
        words = ("template", release, str(CHART), "--namespace", namespace, "--values", "-", *flags)
        return Rendered(
            self(*words, stdin=json.dumps(merged))
        )  # PyYAML would write the text 1e6 without quotes

    def refusal(self, *values: Values) -> str:
        """The message with which Helm refuses these values on top of `MINIMAL`."""
        try:
            self.render(MINIMAL, *values)
        except HelmError as error:
            return str(error)
        raise AssertionError("Helm took the values")


def _over(below: Values, above: Values) -> dict[str, Any]:
    """As Helm lays values over each other."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def objects_of(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each object of a JSON Schema that names its properties, with its path."""
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from objects_of(inner, f"{path}.{name}" if path else name)
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from objects_of(schema["additionalProperties"], f"{path}.*")
    for alternative in schema.get("anyOf", ()):
        yield from objects_of(alternative, path)
