"""Certificates of the lab's own authority, made with the openssl command.

Everything is verified with them, as in a real cluster: nothing in the lab skips
the check of a certificate. Keys are on elliptic curves, which are made at once.
"""

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import settings
from .settings import API_URL, HOST_IP, NODES, RUN, SERVICE_API_IP
from .shell import run

PKI = RUN / "pki"
CA = PKI / "ca.crt"


def _key(name: str) -> Path:
    path = PKI / f"{name}.key"
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path])
    return path


def _certificate(name: str, subject: str, names: str = "") -> None:
    key, request, extensions = _key(name), PKI / f"{name}.csr", PKI / f"{name}.ext"
    run(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", request])
    extensions.write_text("keyUsage=critical,digitalSignature\n"
                          "extendedKeyUsage=serverAuth,clientAuth\n"
                          + (f"subjectAltName={names}\n" if names else ""))
    run(["openssl", "x509", "-req", "-sha256", "-days", "365", "-in", request, "-CA", CA,
         "-CAkey", PKI / "ca.key", "-extfile", extensions, "-out", PKI / f"{name}.crt",
         "-set_serial", f"0x{secrets.token_hex(15)}"])


def create() -> None:
    PKI.mkdir(mode=0o700)
    run(["openssl", "req", "-x509", "-new", "-sha256", "-days", "365", "-key", _key("ca"),
         "-subj", "/CN=directlb-lab-ca", "-out", CA])
    run(["openssl", "ec", "-in", _key("sa"), "-pubout", "-out", PKI / "sa.pub"])
    wanted = [
        ("apiserver", "/CN=kube-apiserver",
         f"IP:127.0.0.1,IP:{SERVICE_API_IP},IP:{HOST_IP},DNS:localhost,DNS:kubernetes,"
         "DNS:kubernetes.default,DNS:kubernetes.default.svc,"
         "DNS:kubernetes.default.svc.cluster.local"),
        ("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
        # With its name, the API server speaks to aggregated APIs for its callers.
        ("front-proxy", "/CN=front-proxy-client"),
        ("admin", "/O=system:masters/CN=directlb-lab-admin"),
        ("controller-manager", "/CN=system:kube-controller-manager"),
        ("scheduler", "/CN=system:kube-scheduler"),
        ("kube-proxy", "/CN=system:kube-proxy"),
    ]
    for node in NODES:
        wanted += [(f"kubelet-{node.name}", f"/O=system:nodes/CN=system:node:{node.name}"),
                   (f"serving-{node.name}", f"/CN={node.name}", f"IP:{node.ip},DNS:{node.name}")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda w: _certificate(*w), wanted))
    for name in ("admin", "controller-manager", "scheduler", "kube-proxy",
                 *(f"kubelet-{n.name}" for n in NODES)):
        _kubeconfig(PKI / f"{name}.kubeconfig", name)
    _kubeconfig(settings.KUBECONFIG, "admin")


def _kubeconfig(path: Path, user: str) -> None:
    """Refers to the certificates as files. JSON is YAML too."""
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "directlb-lab",
        "clusters": [{"name": "directlb-lab", "cluster": {
            "server": API_URL, "certificate-authority": str(CA)}}],
        "users": [{"name": user, "user": {
            "client-certificate": str(PKI / f"{user}.crt"),
            "client-key": str(PKI / f"{user}.key")}}],
        "contexts": [{"name": "directlb-lab",
                      "context": {"cluster": "directlb-lab", "user": user}}],
    }, indent=1) + "\n")
    path.chmod(0o600)
