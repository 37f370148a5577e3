"""Requests that fail while Pods come and go: DirectLB beside what people have without it, under the same load.

Open loop, by vegeta: 500 requests a second, half on an HTTP and half on a TCP listener, of each half on connections that are
kept and half with a new connection for each request.
"""

import json
import os
import signal
import subprocess
import time

import setup
from common import CLIENT_NETNS, NAMESPACE, REPORTS, Namespace, apply, kubectl, lab, leader, machine, pids_of, say, table
from common import vegeta, wait, write

REPLICAS = 6
# Of each of the four kinds.
RATE = 125
DRAIN = "5s"


def deployment() -> dict:
    env = [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{
                "name": "echo", "image": "directlb.local/echo:dev", "imagePullPolicy": "IfNotPresent",
                # The worst application: it drops everything as soon as it is told to stop.
                "args": ["-exit-on-term"], "env": env, "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
                "resources": {"requests": {"cpu": "20m"}},
            }]}},
        },
    }


def load_balancer(gate: str, timeout: str, pre_stop: str) -> dict:
    check = {"type": "HTTP", "path": "/healthz", "interval": "1s", "timeout": "1s"}
    return {
        "apiVersion": "directlb.io/v1alpha1", "kind": "DirectLoadBalancer", "metadata": {"name": "web"},
        "spec": {
            "target": {"workload": {"kind": "Deployment", "name": "web"}},
            "readinessGate": gate, "drain": {"timeout": timeout, "preStop": pre_stop},
            "listeners": [
                {"name": "http", "protocol": "HTTP", "port": 80, "targetPort": "http", "healthCheck": check},
                {"name": "tcp", "protocol": "TCP", "port": 81, "targetPort": "http", "healthCheck": check},
            ],
        },
    }


def node_port() -> dict:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}}


VARIANTS = {
    "directlb": load_balancer("Enabled", DRAIN, "Inject"),
    "directlb-no-drain": load_balancer("Enabled", "0s", "None"),
    "no-gate-no-drain": load_balancer("Disabled", "0s", "None"),
    "nodeport": node_port(),
}


class Load:
    """Four attacks at a time, for as long as a phase takes."""

    def __init__(self, targets: dict[str, list[str]]):
        self.attacks = []
        folder = REPORTS / "vegeta"
        folder.mkdir(parents=True, exist_ok=True)
        for listener, urls in targets.items():
            text = "".join(f"GET {url}\n" for url in urls)
            for keep in ("true", "false"):
                out = folder / f"{listener}-{keep}.bin"
                attack = subprocess.Popen(
                    ["nsenter", f"--net={CLIENT_NETNS}", vegeta(), "attack", "-name", listener, f"-rate={RATE}/1s",
                     "-duration=0", f"-keepalive={keep}", "-timeout=10s", "-max-body=0", f"-output={out}"],
                    stdin=subprocess.PIPE, text=True, env=setup.environment())
                attack.stdin.write(text)
                attack.stdin.close()
                self.attacks.append((attack, out))

    def end(self) -> dict:
        for attack, _ in self.attacks:
            attack.send_signal(signal.SIGINT)
        for attack, _ in self.attacks:
            attack.wait(timeout=60)
        files = [str(out) for _, out in self.attacks]
        done = subprocess.run([vegeta(), "report", "-type=json", *files], env=setup.environment(), check=True,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        report = json.loads(done.stdout)
        ok = report["status_codes"].get("200", 0)
        for error in (report.get("errors") or [])[:3]:
            print(f"      {error}")
        return {"requests": report["requests"], "failures": report["requests"] - ok,
                "p50_ms": round(report["latencies"]["50th"] / 1e6, 2),
                "p99_ms": round(report["latencies"]["99th"] / 1e6, 2)}


class Cluster:
    """What happens to the Pods in the phases."""

    def __init__(self, namespace: str):
        self.n = namespace

    def kubectl(self, *args: str) -> str:
        return kubectl("-n", self.n, *args)

    def rolled_out(self) -> None:
        self.kubectl("rollout", "status", "deployment/web", "--timeout=180s")

    def rollout(self) -> None:
        self.kubectl("rollout", "restart", "deployment/web")
        self.rolled_out()

    def scale(self) -> None:
        for n in ("2", "8"):
            self.kubectl("scale", "deployment/web", f"--replicas={n}")
            self.rolled_out()
            time.sleep(8)
        self.kubectl("scale", "deployment/web", f"--replicas={REPLICAS}")

    def delete_pod(self) -> None:
        pod = self.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
        self.kubectl("delete", "pod", pod)
        self.rolled_out()

    def drain_node(self) -> None:
        try:
            kubectl("drain", "worker2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s")
            self.rolled_out()
        finally:
            kubectl("uncordon", "worker2")

    def leader_killed(self) -> None:
        self.kubectl("rollout", "restart", "deployment/web")
        time.sleep(1)
        before = leader()
        for pid in pids_of(before):
            os.kill(pid, signal.SIGKILL)
        # Else its container is back within a second, and goes on.
        kubectl("-n", NAMESPACE, "delete", "pod", before, "--force", "--grace-period=0")
        self.rolled_out()
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/directlb-controller", "--timeout=120s")


def variant(name: str, rollouts: int, env: dict) -> list[dict]:
    rows = []
    with Namespace(f"bench-{name}") as ns:
        cluster = Cluster(ns.name)
        obj = VARIANTS[name]
        apply(obj | {"metadata": {"name": "web", "namespace": ns.name}})
        made = deployment()
        apply(made | {"metadata": {"name": "web", "namespace": ns.name}})
        cluster.rolled_out()
        if obj["kind"] == "Service":
            port = cluster.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
            urls = [f"http://{n['ip']}:{port}/" for n in env["nodes"] if not n["edge"]]
            targets = {"http": urls, "tcp": urls}
        else:
            ready = f"{REPLICAS}/{REPLICAS}"
            wait(f"{name} is ready", 90, lambda: cluster.kubectl(
                "get", "directloadbalancer", "web", "-o", "jsonpath={.status.readyTargets}") == ready)
            address = cluster.kubectl("get", "directloadbalancer", "web", "-o",
                                      "jsonpath={.status.loadBalancer.addresses[0].value}")
            targets = {"http": [f"http://{address}:80/"], "tcp": [f"http://{address}:81/"]}
        phases = [(f"rollout-{i + 1}", cluster.rollout) for i in range(rollouts)]
        phases += [("scale-6-2-8", cluster.scale), ("delete-pod", cluster.delete_pod),
                   ("drain-node", cluster.drain_node), ("rollout-leader-killed", cluster.leader_killed)]
        for phase, act in phases:
            load = Load(targets)
            time.sleep(2)
            begun = time.monotonic()
            act()
            seconds = time.monotonic() - begun
            # Pods that are leaving still are, for a while.
            time.sleep(10)
            row = {"variant": name, "phase": phase, **load.end(), "rollout_seconds": round(seconds, 1)}
            say(f"{name} {phase}: {row['requests']} requests, {row['failures']} failures, {seconds:.1f} s")
            rows.append(row)
    return rows


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main(keep: bool, rollouts: int, only: list[str]) -> int:
    names = [v for v in VARIANTS if not only or v in only]
    with lab(keep) as env:
        rows = [row for name in names for row in variant(name, rollouts, env)]
    columns = ["variant", "phase", "requests", "failures", "p50_ms", "p99_ms", "rollout_seconds"]
    table(rows, columns)
    failures = {n: sum(r["failures"] for r in rows if r["variant"] == n) for n in names}
    seconds = {n: median([r["rollout_seconds"] for r in rows if r["variant"] == n and r["phase"].startswith("rollout-")])
               for n in names}
    report = {"rows": rows, "failures": failures, "median_rollout_seconds": seconds, "requests_per_second": 4 * RATE,
              "machine": machine()}
    write("rollout.json", report)
    problems = []
    if failures.get("directlb"):
        problems.append(f"directlb lost {failures['directlb']} requests")
    problems += [f"{n} lost nothing: the load proves nothing" for n in ("no-gate-no-drain", "nodeport")
                 if failures.get(n) == 0]
    if {"directlb", "directlb-no-drain"} <= seconds.keys() and seconds["directlb"] > 2 * seconds["directlb-no-drain"]:
        problems.append("a rollout takes more than twice as long as without drain")
    for problem in problems:
        say(f"FAILED: {problem}")
    return 1 if problems else 0
