"""What the demo, the tests and the benchmarks have in common: the controller built, the lab up, the chart installed."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMESPACE = "directlb-system"
# The lab has no cluster DNS.
XDS_IP = "10.96.0.50"
VALUES = ROOT / "e2e" / "values.yaml"

_begun = time.monotonic()


def say(text: str) -> None:
    print(f"==> [{time.monotonic() - _begun:6.1f}s] {text}", flush=True)


def in_lab() -> bool:
    """Whether the lab is used, and not a cluster of the user's."""
    return os.environ.get("CLUSTER", "lab") != "current"


def run(*command: str, check: bool = True, quiet: bool = False, **kwargs) -> subprocess.CompletedProcess:
    """Runs a command; stops with its output if it fails."""
    if quiet:
        kwargs |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run([str(c) for c in command], cwd=ROOT, stdin=subprocess.DEVNULL, env=environment(), **kwargs)
    if check and done.returncode != 0:
        if quiet:
            sys.stdout.write(done.stdout)
        sys.exit(f"failed ({done.returncode}): {' '.join(str(c) for c in command)}")
    return done


def environment() -> dict:
    if not in_lab():
        return dict(os.environ)
    path = f"{ROOT / '.lab' / 'bin'}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "KUBECONFIG": str(ROOT / ".lab" / "kubeconfig")}


def lab(*args: str) -> None:
    run(sys.executable, ROOT / "e2e" / "lab" / "lab.py", *args)


def build_controller() -> None:
    say("building the controller (first time: about 6 minutes on 2 cores)")
    run("cargo", "build", "--locked", "--bin", "directlb")


def kubectl(*args: str, **kwargs) -> subprocess.CompletedProcess:
    return run("kubectl", *args, **kwargs)


def apply(text: str, *flags: str) -> str:
    """Applies YAML or JSON; kubectl's words, with which it stops if something is refused."""
    done = subprocess.run(["kubectl", "apply", *flags, "-f", "-"], input=text, text=True, env=environment(), check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        sys.exit(f"kubectl apply: {done.stdout}")
    return done.stdout


def use_current_context() -> None:
    """A cluster of the user's: its context is named before anything is done to it."""
    context = kubectl("config", "current-context", quiet=True).stdout.strip()
    say(f"CLUSTER=current: using the kubeconfig context {context}")
    registry = os.environ.get("REGISTRY", "").rstrip("/")
    if not registry:
        say("REGISTRY is not set: DirectLB must be installed already")
        return
    build_controller()
    lab("push", registry)
    images = ["--set", f"controller.image.repository={registry}/controller", "--set", "controller.image.tag=dev",
              "--set", f"proxy.image.repository={registry}/envoy", "--set", "proxy.image.tag=1.40.0"]
    values = ["--values", os.environ["VALUES"]] if os.environ.get("VALUES") else []
    say("installing the chart by Helm")
    run("helm", "upgrade", "--install", "directlb", ROOT / "charts" / "directlb", "--namespace", NAMESPACE,
        "--create-namespace", *images, *values, quiet=True)
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/directlb-controller", "--timeout=180s", quiet=True)


def echo_image() -> str:
    registry = "" if in_lab() else os.environ.get("REGISTRY", "").rstrip("/")
    return f"{registry or 'directlb.local'}/echo:dev"


def install() -> None:
    """Installs or upgrades the chart with the lab's images, and waits until everything runs."""
    say("installing the chart by Helm")
    run("helm", "upgrade", "--install", "directlb", ROOT / "charts" / "directlb", "--namespace", NAMESPACE,
        "--create-namespace", "--values", VALUES, quiet=True)
    # The image's tag does not change when the binary does.
    kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/directlb-controller", quiet=True)
    for workload in ("deployment/directlb-controller", "daemonset/directlb-proxy-default"):
        kubectl("-n", NAMESPACE, "rollout", "status", workload, "--timeout=180s", quiet=True)
    say("the controller and the proxies run")
