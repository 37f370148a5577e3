#!/usr/bin/env python3
"""From a fresh machine to a working load balancer, and a rolling update under load that loses nothing.

Leaves the lab up, so that you can go on; `make lab-down` ends it.
"""

import json
import os
import subprocess
import sys
import time

import setup
from setup import ROOT, kubectl, say

REPORT = ROOT / "target" / "reports" / "demo.json"


def client(*args: str) -> subprocess.Popen:
    """Starts a client in the lab's client network (or here, for another cluster)."""
    command = ["lab-echo", "client", *args]
    if setup.in_lab():
        command = ["nsenter", "--net=/var/run/netns/dlb-client", str(ROOT / ".lab" / "bin" / "lab-echo"), *command[1:]]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            env=setup.environment())


def result(child: subprocess.Popen) -> dict:
    out, _ = child.communicate(timeout=300)
    return json.loads(out)


def main() -> int:
    if setup.in_lab():
        say("the lab: a real Kubernetes on this machine (first time: about 12 minutes on 2 cores to build it)")
        setup.build_controller()
        setup.lab("up")
        setup.install()
    else:
        setup.use_current_context()

    say("applying examples/quickstart.yaml")
    begun = time.monotonic()
    quickstart = (ROOT / "examples" / "quickstart.yaml").read_text()
    print(setup.apply(quickstart.replace("directlb.local/echo:dev", setup.echo_image())), end="")
    # Both: the load balancer is Ready as soon as the targets that there are are healthy.
    kubectl("-n", "demo", "rollout", "status", "deployment/web", "--timeout=180s", quiet=True)
    kubectl("-n", "demo", "wait", "--for=condition=Ready", "directloadbalancer/web", "--timeout=180s")
    ready = time.monotonic() - begun
    kubectl("get", "directloadbalancers", "-A")
    kubectl("-n", "demo", "get", "pods", "-o", "wide")
    address = kubectl("-n", "demo", "get", "directloadbalancer", "web", "-o",
                      "jsonpath={.status.loadBalancer.addresses[0].value}", quiet=True).stdout.strip()

    say(f"300 requests to http://{address}/")
    first = result(client("http", "--url", f"http://{address}/", "--n", "300"))
    for pod, count in sorted(first["by_pod"].items()):
        print(f"    {pod}: {count}")

    say("a rolling update, with 200 requests a second all the while")
    load = client("http", "--url", f"http://{address}/", "--rate", "200", "--duration", "20s")
    time.sleep(1)
    kubectl("-n", "demo", "rollout", "restart", "deployment/web", quiet=True)
    kubectl("-n", "demo", "rollout", "status", "deployment/web", "--timeout=180s", quiet=True)
    rollout = result(load)
    print(f"    requests: {rollout['requests']}, failures: {rollout['failures']}")

    report = {
        "requests": first["requests"], "failures": first["failures"], "pods": first["by_pod"],
        "seconds_to_ready": round(ready, 1),
        "rollout": {"requests": rollout["requests"], "failures": rollout["failures"]},
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")
    say(f"written to {REPORT.relative_to(ROOT)}")
    if setup.in_lab():
        print(f"""
Go on:
    export KUBECONFIG={os.path.relpath(ROOT / '.lab' / 'kubeconfig')} PATH=$PWD/.lab/bin:$PATH
    kubectl get directloadbalancers -A
    nsenter --net=/var/run/netns/dlb-client curl http://{address}/
Clean up:
    make lab-down""")
    return 0 if first["failures"] == 0 and rollout["failures"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
