"""`helm upgrade` restarts the pods when a file has changed that they read only at the start, and publishes nothing of it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from .rendering import MINIMAL, OAUTHBEARER, Helm, Values

CANARY = "canary-4711"
KINDS = {
    "v1": ("Secret", "ConfigMap", "Service", "ServiceAccount"),
    "apps/v1": ("StatefulSet",),
    "policy/v1": ("PodDisruptionBudget",),
}


def discovery() -> dict[str, dict[str, Any]]:
    """What Helm asks an API server before it looks anything up, by path."""
    groups = [
        {"name": version.partition("/")[0], "versions": [{"groupVersion": version, "version": "v1"}]}
        for version in KINDS
        if "/" in version
    ]
    answers: dict[str, dict[str, Any]] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for version, kinds in KINDS.items():
        resources = [
            {"name": f"{kind.lower()}s", "namespaced": True, "kind": kind, "verbs": ["get"]} for kind in kinds
        ]
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        answers[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    return answers


@contextmanager
def api_server(objects: list[dict[str, Any]], folder: Path) -> Iterator[tuple[str, ...]]:
    """As much of one as answers Helm's `lookup`; gives the flags that point Helm at it."""

    known = discovery()
    for found in objects:
        known[f"/api/v1/namespaces/prod/{found['kind'].lower()}s/{found['metadata']['name']}"] = found

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            found = known.get(path)
            gone = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": "NotFound",
                "code": 404,
            }
            body = json.dumps(found or gone).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        (folder / "kubeconfig").write_text("")
        yield (
            "--dry-run=server",
            "--disable-openapi-validation",
            "--kubeconfig",
            str(folder / "kubeconfig"),
            "--kube-apiserver",
            url,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


VALUES = {
    "config": {
        "kafka": {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "course-sync",
            "sasl_password_file": {"secret": "kafka", "key": "password"},
            "tls_ca_file": {"configMap": "authorities", "key": "bundle.pem"},
        },
        "kombo": {
            "ca_file": {"configMap": "binary"},
            "proxy": "http://course-sync@proxy.example.com:3128",
            "proxy_password_file": {"secret": "proxy"},
        },
    }
}
TOKENS = {"config": {"kafka": OAUTHBEARER | {"sasl_oauth_ca_file": {"configMap": "binary"}}}}


def there(
    *,
    key: str = CANARY,
    password: str = CANARY,
    proxy: str = CANARY,
    client: str = CANARY,
    authorities: str = "A",
    binary: str = "A",
    other: str = "1",
    uid: str = "5a1e8a0c-9d6b-4c53-8d0f-0b5c1f0a7e11",
    **metadata: Any,
) -> list[dict[str, Any]]:
    """The objects of the namespace that the values name."""

    def named(kind: str, name: str, **content: Any) -> dict[str, Any]:
        about = {"name": name, "namespace": "prod", "uid": uid, "resourceVersion": "1"} | metadata
        return {"apiVersion": "v1", "kind": kind, "metadata": about, **content}

    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    return [
        named("Secret", "course-sync-kombo", data={"api-key": encoded(key)}),
        named("Secret", "kafka", data={"password": encoded(password), "other": encoded(other)}),
        named("Secret", "proxy", data={"proxy-password": encoded(proxy)}),
        named("Secret", "idp", data={"client-secret": encoded(client)}),
        named("ConfigMap", "authorities", data={"bundle.pem": authorities, "other": other}),
        named("ConfigMap", "binary", binaryData={"ca.crt": encoded(binary)}),
    ]


Annotations = Callable[..., dict[str, str]]


@pytest.fixture(name="annotations")
def _annotations(helm: Helm, tmp_path: Path) -> Annotations:
    """Of the pod template, where these objects are in the cluster."""

    def rendered(objects: list[dict[str, Any]], values: Values = VALUES) -> dict[str, str]:
        with api_server(objects, tmp_path) as flags:
            found = helm.render(MINIMAL, values, flags=flags)
        assert CANARY not in found.text
        return dict(found.template["metadata"]["annotations"])

    return rendered


@pytest.mark.parametrize(
    "changed",
    [{"password": "new"}, {"proxy": "new"}, {"authorities": "B"}, {"binary": "B"}],
    ids=["a password", "that of the proxy", "authorities in a ConfigMap", "binary data of a ConfigMap"],
)
def test_a_changed_file_restarts_the_pods(annotations: Annotations, changed: dict[str, str]) -> None:
    before, after = annotations(there()), annotations(there(**changed))

    assert before.pop("checksum/files") != after.pop("checksum/files")
    assert before == after


@pytest.mark.parametrize("changed", [{"client": "new"}, {"binary": "B"}], ids=["secret", "authorities"])
def test_a_changed_file_of_a_login_by_tokens_restarts_them_too(
    annotations: Annotations, changed: dict[str, str]
) -> None:
    before, after = annotations(there(), TOKENS), annotations(there(**changed), TOKENS)

    assert before["checksum/files"] != after["checksum/files"]
    assert annotations(there(password="new"), TOKENS) == before


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "new"},
        {"other": "2"},
        {"resourceVersion": "2", "annotations": {"a": "b"}},
        {"labels": {"a": "b"}, "resourceVersion": "3"},
    ],
    ids=["the API key, which is read again", "another key of the same object", "an annotation", "a label"],
)
def test_nothing_else_restarts_them(annotations: Annotations, changed: dict[str, Any]) -> None:
    assert annotations(there()) == annotations(there(**changed))


def test_objects_that_are_not_made_yet_are_no_mistake(annotations: Annotations) -> None:
    """The pods wait for them."""
    assert "checksum/files" not in annotations([])
    assert "checksum/files" in annotations(there()[:2])


def test_the_hash_of_a_weak_password_helps_nobody_to_guess_it(annotations: Annotations) -> None:
    """It has a salt that only those know who may read the Secret."""
    one = annotations(there(uid="0d2f4b1e-77c5-4a35-b7f5-3a2c9f4c0a52"))["checksum/files"]
    assert one != annotations(there())["checksum/files"]
    assert one not in {hashlib.sha256(text.encode()).hexdigest() for text in (CANARY, f"{CANARY}\n")}


def test_without_a_cluster_there_is_nothing_to_look_up(helm: Helm) -> None:
    found = helm.render(MINIMAL, VALUES).template["metadata"]["annotations"]
    assert set(found) == {
        "kubectl.kubernetes.io/default-container",
        "course-sync-daemon/coursesync.toml",
    }
