"""Pods by the hundred that cost nothing: a node without a kubelet, and one server that answers at all their addresses.

For the controller and the proxies they are Pods like any other: the API server has them, their addresses answer health
checks and requests. What a kubelet would write, this writes.
"""

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from common import CLIENT_NETNS, Api, Connection, say

SUBNET = "10.98"
NODE = "bench"
PORT = 8080


def _ip(netns: str, *args: str, check: bool = True) -> None:
    subprocess.run(["ip", "-n", netns, *args], check=check, stdin=subprocess.DEVNULL)


class FakeNode:
    """The node, its heartbeat, and the server behind all its Pods."""

    def __init__(self, api: Api, env: dict):
        self.api, self.env = api, env
        self.edges = [n["netns"] for n in env["nodes"] if n["edge"]]
        self.stopped = threading.Event()
        self.server = None

    def __enter__(self):
        c = self.api.connection()
        node = {"metadata": {"name": NODE, "labels": {"directlb.io/bench": "true"}},
                "spec": {"taints": [{"key": "directlb.io/bench", "effect": "NoSchedule"}]}}
        self._quiet(c, "DELETE", f"/api/v1/nodes/{NODE}")
        c.request("POST", "/api/v1/nodes", node)
        self._beat(c)
        threading.Thread(target=self._heartbeat, daemon=True).start()
        # Every address of the subnet is local in the client's network.
        _ip("dlb-client", "route", "replace", "local", f"{SUBNET}.0.0/16", "dev", "lo")
        for edge in self.edges:
            _ip(edge, "route", "replace", f"{SUBNET}.0.0/16", "via", self.env["client_ip"])
        self.server = subprocess.Popen(
            ["nsenter", f"--net={CLIENT_NETNS}", self.env["echo"], "--http", f":{PORT}", "--https", "", "--grpc", "",
             "--tcp", "", "--udp", ""],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        self.stopped.set()
        if self.server:
            self.server.terminate()
            self.server.wait()
        for edge in self.edges:
            _ip(edge, "route", "del", f"{SUBNET}.0.0/16", check=False)
        _ip("dlb-client", "route", "del", "local", f"{SUBNET}.0.0/16", "dev", "lo", check=False)
        self._quiet(self.api.connection(), "DELETE", f"/api/v1/nodes/{NODE}")

    @staticmethod
    def _quiet(c: Connection, method: str, path: str) -> None:
        try:
            c.request(method, path)
        except RuntimeError:
            pass

    def _heartbeat(self) -> None:
        c = self.api.connection()
        while not self.stopped.wait(10):
            try:
                self._beat(c)
            except (RuntimeError, OSError) as error:
                say(f"the node's heartbeat: {error}")
                c = self.api.connection()

    def _beat(self, c: Connection) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                     "lastHeartbeatTime": now, "lastTransitionTime": now}
        c.patch_status(f"/api/v1/nodes/{NODE}", {"conditions": [condition]})


def pod(namespace: str, app: str, name: str) -> dict:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {"nodeName": NODE, "automountServiceAccountToken": False,
                 "tolerations": [{"operator": "Exists"}],
                 "containers": [{"name": "app", "image": "none", "ports": [{"containerPort": PORT}]}]},
    }


def address(n: int) -> str:
    return f"{SUBNET}.{n // 250}.{n % 250 + 1}"


def running(n: int, ready: bool) -> dict:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def condition(kind: str, status: bool) -> dict:
        return {"type": kind, "status": str(status), "lastTransitionTime": now}

    return {
        "phase": "Running", "podIP": address(n), "podIPs": [{"ip": address(n)}], "hostIP": "10.250.0.100",
        "startTime": now,
        "conditions": [condition("PodScheduled", True), condition("Initialized", True),
                       condition("ContainersReady", ready)],
    }


class Pool:
    """Does something for many Pods at once, on connections that stay open."""

    def __init__(self, api: Api, threads: int = 8):
        self.local = threading.local()
        self.api = api
        self.threads = ThreadPoolExecutor(threads)

    def connection(self) -> Connection:
        if not hasattr(self.local, "c"):
            self.local.c = self.api.connection()
        return self.local.c

    def each(self, items, do) -> None:
        list(self.threads.map(lambda item: do(self.connection(), item), items))

    def make(self, namespace: str, pods: list[tuple[str, str, int]], ready: bool) -> None:
        """Makes Pods of (app, name, number), and has them run."""
        path = f"/api/v1/namespaces/{namespace}/pods"

        def one(c: Connection, item: tuple[str, str, int]) -> None:
            app, name, n = item
            c.request("POST", path, pod(namespace, app, name))
            c.patch_status(f"{path}/{name}", running(n, ready))

        self.each(pods, one)

    def delete(self, namespace: str, names: list[str]) -> None:
        """Deletes Pods at once, as no kubelet confirms that they have ended."""
        path = f"/api/v1/namespaces/{namespace}/pods"

        def one(c: Connection, name: str) -> None:
            FakeNode._quiet(c, "DELETE", f"{path}/{name}?gracePeriodSeconds=0")

        self.each(names, one)


def load_balancer(namespace: str, name: str, app: str, port: int = 80) -> dict:
    return {
        "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "target": {"selector": {"matchLabels": {"app": app}}},
            "listeners": [{"name": "http", "protocol": "HTTP", "port": port, "targetPort": PORT,
                           "healthCheck": {"type": "HTTP", "path": "/healthz"}}],
        },
    }
