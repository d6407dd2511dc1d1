"""etcd, the API server, the controller manager and the scheduler."""

from __future__ import annotations

import ssl
import time

from tests.cluster.kubernetes import Api
from tests.cluster.places import CONTROL_PLANE, Places
from tests.sandbox.process import Child, SandboxError
from tests.tls_files import Authority

TOKEN = "administrator-of-a-cluster-that-nobody-else-reaches"
_TIMEOUT = 180.0
"""Seconds until the API server must be ready. It takes ten on an idle machine."""


def start_control_plane(places: Places, authority: Authority) -> Api:
    """Start it, write a kubeconfig to `places.work`, and return when it is ready.

    Raises:
        SandboxError: a part ended, or was not ready in time.
    """
    keys, etcd = places.keys, "http://127.0.0.1:2379"
    server, accounts = authority.issue("apiserver", host=CONTROL_PLANE), authority.issue("accounts")
    (keys / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
    kubeconfig = places.work / "kubeconfig"
    kubeconfig.write_text(
        f"""
apiVersion: v1
kind: Config
clusters: [{{name: here, cluster: {{server: "https://{CONTROL_PLANE}:6443", certificate-authority: {authority.file}}}}}]
users: [{{name: admin, user: {{token: {TOKEN}}}}}]
contexts: [{{name: here, context: {{cluster: here, user: admin}}}}]
current-context: here
"""
    )

    def start(name: str, **flags: object) -> Child:
        words = [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
        return Child.start(name, [str(places.binaries / name), *words], log=places.log(name))

    children = [
        start(
            "etcd",
            data_dir=places.work / "etcd",
            listen_client_urls=etcd,
            advertise_client_urls=etcd,
            listen_peer_urls="http://127.0.0.1:2380",
            unsafe_no_fsync="true",
        ),
        start(
            "kube-apiserver",
            etcd_servers=etcd,
            bind_address="0.0.0.0",
            advertise_address=CONTROL_PLANE,
            tls_cert_file=server.certificate,
            tls_private_key_file=server.key,
            token_auth_file=keys / "tokens.csv",
            service_account_issuer="https://kubernetes.default.svc",
            service_account_key_file=accounts.certificate,
            service_account_signing_key_file=accounts.key,
            # The names of the nodes lead nowhere.
            kubelet_preferred_address_types="InternalIP",
            authorization_mode="RBAC",
            enable_admission_plugins="PodSecurity",
            service_cluster_ip_range="10.96.0.0/16",
        ),
        start(
            "kube-controller-manager",
            kubeconfig=kubeconfig,
            service_account_private_key_file=accounts.key,
            root_ca_file=authority.file,
            leader_elect="false",
        ),
        start("kube-scheduler", kubeconfig=kubeconfig, leader_elect="false"),
    ]
    api = Api(f"https://{CONTROL_PLANE}:6443", TOKEN, ssl.create_default_context(cafile=authority.file))
    deadline = time.monotonic() + _TIMEOUT
    while not (api.ready() and api.exists("/api/v1/namespaces/default/serviceaccounts/default")):
        for child in children:
            if not child.running:
                raise SandboxError(child.obituary())
        if time.monotonic() > deadline:
            raise SandboxError(f"The API server was not ready.\n{children[1].log_tail()}")
        time.sleep(0.3)
    return api
