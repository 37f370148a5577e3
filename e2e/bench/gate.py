"""How fast gates open and drains begin: Pods that become ready one by one, a burst of 200, then Pods deleted one by one.

Gates by the controller's own histogram (from the last proxy's first healthy report to the condition); the burst and the
drains from outside, by watching the API server and asking both proxies.
"""

import ctypes
import http.client
import json
import os
import re
import threading
import time

from common import NAMESPACE, Api, Namespace, apply, kubectl, lab, leader, machine, say, table, wait, write
from fake import PORT, FakeNode, Pool, address, load_balancer, running

STEADY = 60
BURST = 200
GATE = "gate.directlb.io/web"
CLONE_NEWNET = 0x40000000
OPEN = re.compile(rb'"type":"' + re.escape(GATE.encode()) + rb'"[^}]*"status":"True"')
NAME = re.compile(rb'"metadata":\{"name":"([^"]+)"')


def histogram(pod: str, name: str) -> dict[float, int]:
    """Cumulative counts by upper bound, of one replica."""
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics")
    out = {}
    for line in text.splitlines():
        if line.startswith(f"{name}_bucket"):
            bound, count = line.split('le="')[1].split('"} ')
            out[float(bound.replace("+Inf", "inf"))] = int(float(count))
    return out


def quantile(before: dict[float, int], after: dict[float, int], q: float) -> float:
    """As Prometheus' histogram_quantile, in milliseconds."""
    counts = [(b, after[b] - before.get(b, 0)) for b in sorted(after)]
    total = counts[-1][1]
    low, seen = 0.0, 0
    for bound, count in counts:
        if count >= q * total and total:
            if bound == float("inf"):
                return low * 1000
            inside = count - seen
            return 1000 * (low + (bound - low) * ((q * total - seen) / inside if inside else 1))
        low, seen = bound, count
    return float("nan")


class Watch(threading.Thread):
    """When each Pod's gate opened, as a client of the API server sees it."""

    def __init__(self, api: Api, namespace: str):
        super().__init__(daemon=True)
        self.port = api.port
        self.path = f"/api/v1/namespaces/{namespace}/pods?watch=true&timeoutSeconds=600"
        self.opened: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        # The API server ends the watch of a client that falls behind in the burst. A new one begins with every Pod as
        # it is by then, so nothing is missed.
        while True:
            http_ = http.client.HTTPConnection("127.0.0.1", self.port)
            try:
                http_.request("GET", self.path)
                for line in http_.getresponse():
                    self.event(line)
            except ConnectionRefusedError:
                return  # The lab has gone.
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            finally:
                http_.close()

    def event(self, line: bytes) -> None:
        # To parse whole Pods would take the CPU that is measured.
        if OPEN.search(line):
            name = NAME.search(line)
            self.opened.setdefault(name[1].decode(), time.monotonic())


class Proxy(threading.Thread):
    """Asks one proxy's admin interface, in its own network, when an endpoint began to drain."""

    def __init__(self, netns: str):
        super().__init__(daemon=True)
        self.netns = netns
        self.wanted: str | None = None
        self.seen: float | None = None
        self.there = False
        self.go = threading.Event()
        self.start()

    def run(self) -> None:
        fd = os.open(f"/run/netns/{self.netns}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(fd)
        admin = http.client.HTTPConnection("127.0.0.1", 19000)
        while True:
            self.go.wait()
            admin.request("GET", "/clusters")
            text = admin.getresponse().read().decode()
            mine = [line for line in text.splitlines() if f"::{self.wanted}::health_flags" in line]
            # Gone counts as well as draining, but only of what was there.
            self.there |= bool(mine)
            if self.there and (not mine or any("eds_status_draining" in line for line in mine)):
                self.seen = time.monotonic()
                self.go.clear()
            else:
                time.sleep(0.002)

    def watch(self, endpoint: str) -> None:
        self.wanted, self.seen, self.there = endpoint, None, False
        self.go.set()


def percentile(values: list[float], q: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, round(q * (len(values) - 1)))]


class Gates:
    """What the leader's histogram says between two moments."""

    NAME = "directlb_gate_open_latency_seconds"

    def __init__(self):
        self.pod = leader()
        self.before = histogram(self.pod, self.NAME)

    def quantiles(self, prefix: str) -> dict:
        after = histogram(self.pod, self.NAME)
        return {f"{prefix}_p{q}_ms": round(quantile(self.before, after, q / 100), 1) for q in (50, 99)}


def ready(path: str):
    return lambda c, p: c.patch_status(f"{path}/{p[1]}", running(p[2], ready=True))


def steady(pool: Pool, watch: Watch, ns: str) -> dict:
    path = f"/api/v1/namespaces/{ns}/pods"
    pods = [("web", f"web-{i}", i) for i in range(STEADY)]
    pool.make(ns, pods, ready=False)
    time.sleep(2)
    gates = Gates()
    say(f"{STEADY} Pods become ready, one after the other")
    for pod in pods:
        pool.each([pod], ready(path))
        time.sleep(0.3)
    wait("every gate is open", 60, lambda: len(watch.opened) == STEADY)
    return gates.quantiles("gate")


def burst(pool: Pool, watch: Watch, ns: str) -> dict:
    path = f"/api/v1/namespaces/{ns}/pods"
    pods = [("web", f"web-{i}", i) for i in range(STEADY, STEADY + BURST)]
    pool.make(ns, pods, ready=False)
    time.sleep(2)
    gates = Gates()
    say(f"{BURST} Pods become ready at once")
    begun = time.monotonic()
    pool.each(pods, ready(path))
    patched = time.monotonic()
    wait("every gate is open", 60, lambda: len(watch.opened) == STEADY + BURST)
    last = max(watch.opened.values())
    return {
        "burst_pods": BURST,
        # From the moment at which the last Pod was ready for its kubelet: with the proxies' checks and their reports.
        "burst_s": round(last - patched, 2),
        "burst_with_patching_s": round(last - begun, 2),
    } | gates.quantiles("burst_gate")


def drains(api: Api, env: dict, ns: str) -> dict:
    proxies = [Proxy(n["netns"]) for n in env["nodes"] if n["edge"]]
    c = api.connection()
    took = []
    say(f"{STEADY} Pods are deleted, one after the other")
    for i in range(STEADY):
        for p in proxies:
            p.watch(f"{address(i)}:{PORT}")
        wait("both proxies have it", 30, lambda: all(p.there for p in proxies))
        begun = time.monotonic()
        c.request("DELETE", f"/api/v1/namespaces/{ns}/pods/web-{i}?gracePeriodSeconds=60")
        wait("both proxies drain it", 30, lambda: all(p.seen for p in proxies))
        took.append(1000 * (max(p.seen for p in proxies) - begun))
        time.sleep(0.2)
    return {"weight0_p50_ms": round(percentile(took, 0.5), 1), "weight0_p99_ms": round(percentile(took, 0.99), 1),
            "weight0_max_ms": round(max(took), 1), "weight0_samples": len(took)}


def main(keep: bool) -> int:
    with lab(keep) as env, Namespace("bench-gate") as ns, Api() as api, FakeNode(api, env):
        pool = Pool(api, threads=16)
        apply(load_balancer(ns.name, "web", "web"))
        watch = Watch(api, ns.name)
        report = steady(pool, watch, ns.name) | burst(pool, watch, ns.name) | drains(api, env, ns.name)
        pool.delete(ns.name, [f"web-{i}" for i in range(STEADY + BURST)])
    table([{"measure": k, "value": v} for k, v in report.items()], ["measure", "value"])
    write("gate.json", report | {"machine": machine()})
    return 0
