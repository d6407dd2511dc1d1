"""`helm upgrade` restarts the pods when a Secret that they mount has changed, and writes nothing of it anywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .rendering import MINIMAL, Helm

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
def api_server(secrets: dict[str, dict[str, Any]], folder: Path) -> Iterator[tuple[str, ...]]:
    """As much of one as answers Helm's `lookup`; gives the flags that point Helm at it."""

    known = discovery()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = path.removeprefix("/api/v1/namespaces/prod/secrets/")
            found = known.get(path) or secrets.get(name)
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


def secret(version: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "course-sync-kombo",
            "namespace": "prod",
            "uid": "u1",
            "resourceVersion": version,
        },
        "stringData": {"api-key": CANARY},
    }


def test_a_changed_secret_restarts_the_pods(helm: Helm, tmp_path: Path) -> None:
    def template(**secrets: dict[str, Any]) -> dict[str, Any]:
        named = {name.replace("_", "-"): found for name, found in secrets.items()}
        with api_server(named, tmp_path) as flags:
            rendered = helm.render(MINIMAL, flags=flags)
        assert CANARY not in rendered.text
        return dict(rendered.workload["spec"]["template"]["metadata"]["annotations"])

    first = template(course_sync_kombo=secret("1"))
    assert template(course_sync_kombo=secret("1"), another=secret("7")) == first
    second = template(course_sync_kombo=secret("2"))
    assert second["checksum/secret"] != first["checksum/secret"]
    assert second["checksum/config"] == first["checksum/config"]
    assert "checksum/secret" not in template()  # not made yet: the pods wait for it


def test_without_a_cluster_there_is_nothing_to_look_up(helm: Helm) -> None:
    annotations = helm.render(MINIMAL).workload["spec"]["template"]["metadata"]["annotations"]
    assert set(annotations) == {"kubectl.kubernetes.io/default-container", "checksum/config"}
