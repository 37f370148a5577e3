"""What the benchmarks have in common: the lab with a release build, kubectl, the API by HTTP, reports."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lab"))
import setup  # noqa: E402
from dlblab import tools  # noqa: E402
from setup import NAMESPACE, ROOT, say  # noqa: E402

REPORTS = ROOT / "target" / "reports"
CLIENT_NETNS = "/run/netns/dlb-client"


def release_binary() -> Path:
    """The controller as it is shipped: what a debug build needs says nothing."""
    say("building the controller with optimisations (first time: about 6 minutes on 2 cores)")
    setup.run("cargo", "build", "--locked", "--release", "--bin", "directlb")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return target / "release" / "directlb"


def vegeta() -> str:
    """The load generator, built once."""
    return str(tools.optional_tools()["bench"].ensure() / "vegeta")


@contextmanager
def lab(keep: bool):
    """The lab with the chart, taken down afterwards unless it should be kept."""
    if not setup.in_lab():
        sys.exit("benchmarks run in the lab: they count processes and look into proxies")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        os.environ["DIRECTLB_BIN"] = str(release_binary())
        setup.lab("up")
        setup.install()
        yield json.loads((ROOT / ".lab" / "env.json").read_text())
    finally:
        if not keep:
            setup.lab("down")


def kubectl(*args: str, **kwargs) -> str:
    return setup.run("kubectl", *args, quiet=True, **kwargs).stdout


def apply(*objects: dict) -> None:
    setup.apply("\n---\n".join(json.dumps(o) for o in objects), "--server-side")


def wait(what: str, seconds: float, ask):
    """Asks until there is an answer."""
    ends = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > ends:
            sys.exit(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


class Namespace:
    """A namespace for the time of the benchmark."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        kubectl("delete", "namespace", self.name, "--ignore-not-found", "--timeout=120s")
        kubectl("create", "namespace", self.name)
        return self

    def __exit__(self, *_):
        setup.run("kubectl", "delete", "namespace", self.name, "--wait=false", quiet=True, check=False)


class Api:
    """The API server by plain HTTP on the loopback, through `kubectl proxy`: a process for each request is too slow."""

    def __enter__(self):
        self.proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True,
                                      stdin=subprocess.DEVNULL, env=setup.environment())
        line = self.proxy.stdout.readline()
        self.port = int(re.search(r":(\d+)\s*$", line).group(1))
        return self

    def __exit__(self, *_):
        self.proxy.terminate()
        self.proxy.wait()

    def connection(self) -> "Connection":
        return Connection(self.port)


class Connection:
    """One kept-alive connection: for one thread."""

    def __init__(self, port: int):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def request(self, method: str, path: str, body: dict | None = None, kind: str = "application/json") -> dict:
        data = None if body is None else json.dumps(body)
        self.http.request(method, path, data, {"content-type": kind})
        answer = self.http.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)

    def patch_status(self, path: str, status: dict) -> None:
        self.request("PATCH", f"{path}/status", {"status": status}, "application/strategic-merge-patch+json")


def leader() -> str:
    lease = json.loads(kubectl("-n", NAMESPACE, "get", "lease", "directlb", "-o", "json"))
    return lease["spec"].get("holderIdentity", "")


def pids_of(pod: str) -> list[int]:
    """The processes of a Pod's first container, by its cgroup."""
    status = json.loads(kubectl("-n", NAMESPACE, "get", "pod", pod, "-o", "json"))["status"]
    container = status["containerStatuses"][0]["containerID"].rsplit("/", 1)[1]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if container in (entry / "cgroup").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def controllers() -> list[str]:
    pods = json.loads(kubectl("-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/component=controller",
                              "-o", "json"))
    return [p["metadata"]["name"] for p in pods["items"] if not p["metadata"].get("deletionTimestamp")]


def machine() -> dict:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cores": os.cpu_count(), "memory_gib": round(memory)}


def write(name: str, report: dict) -> None:
    path = REPORTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    say(f"written to {path.relative_to(ROOT)}")


def table(rows: list[dict], columns: list[str]) -> None:
    def text(value) -> str:
        return f"{value:.1f}" if isinstance(value, float) else str(value)

    cells = [columns] + [[text(r.get(c, "")) for c in columns] for r in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("    " + "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w)
                                 for i, (cell, w) in enumerate(zip(line, widths))).rstrip())
