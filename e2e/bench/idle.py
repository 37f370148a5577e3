"""What a controller at rest needs: 50 objects of 10 Pods, for a minute."""

import json
import os
import time
from pathlib import Path

from common import Api, Namespace, apply, controllers, kubectl, lab, leader, machine, pids_of, say, table, wait
from common import write
from fake import FakeNode, Pool, load_balancer

OBJECTS, PODS = 50, 10
SECONDS = 60


def rss_mib(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
    return total / 1024


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main(keep: bool) -> int:
    with lab(keep) as env, Namespace("bench-idle") as ns, Api() as api, FakeNode(api, env):
        pool = Pool(api)
        say(f"{OBJECTS} objects of {PODS} Pods")
        apply(*(load_balancer(ns.name, f"lb{i}", f"app{i}") for i in range(OBJECTS)))
        pods = [(f"app{i}", f"app{i}-{j}", i * PODS + j) for i in range(OBJECTS) for j in range(PODS)]
        pool.make(ns.name, pods, ready=True)

        def all_ready() -> bool:
            items = json.loads(kubectl("-n", ns.name, "get", "directloadbalancers", "-o", "json"))["items"]
            return sum(o.get("status", {}).get("readyTargets") == f"{PODS}/{PODS}" for o in items) == OBJECTS

        wait("all objects are ready", 180, all_ready)
        say(f"all are ready; at rest for {SECONDS} s")
        time.sleep(20)
        leads = leader()
        rows = []
        pids = {pod: pids_of(pod) for pod in controllers()}
        before = {pod: cpu_seconds(p) for pod, p in pids.items()}
        begun = time.monotonic()
        time.sleep(SECONDS)
        for pod, p in pids.items():
            percent = 100 * (cpu_seconds(p) - before[pod]) / (time.monotonic() - begun)
            rows.append({"pod": pod, "role": "leader" if pod == leads else "follower",
                         "rss_mib": round(rss_mib(p), 1), "cpu_percent": round(percent, 2)})
        pool.delete(ns.name, [name for _, name, _ in pods])
    table(rows, ["pod", "role", "rss_mib", "cpu_percent"])
    worst = {k: max(r[k] for r in rows) for k in ("rss_mib", "cpu_percent")}
    write("idle.json", {**worst, "objects": OBJECTS, "pods": OBJECTS * PODS, "replicas": rows, "machine": machine()})
    return 0
