"""The lab as a whole: bringing it up, telling whether it is healthy, describing it."""

import hashlib
import json
import shutil
import threading
from pathlib import Path

from . import cgroups, controlplane, images, kubeapi, network, node, pki, settings, teardown, tools
from .cache import ensure_all
from .images import Image
from .record import Record
from .settings import LOG, NODES, RUN
from .shell import LabError, note, run, say, wait_until


def _fingerprint(folders: dict[str, Path]) -> str:
    """What a running lab was made of. Another fingerprint means: make it anew."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    for name, folder in sorted(folders.items()):
        if name != "echo":  # reaches the cluster as an image
            digest.update(str(folder).encode())
    return digest.hexdigest()


def problems(record: Record) -> list[str]:
    """Why the recorded lab is not healthy; empty if it is."""
    if not record.this_boot:
        return ["the machine was restarted since"]
    if not record.data["complete"]:
        return ["it was never completely up"]
    living = {p["name"] for p in record.live_processes()}
    dead = sorted({p["name"] for p in record.data["processes"]} - living)
    if dead:
        return [f"{name} died" for name in dead]
    if not kubeapi.ready():
        return ["the API server is not ready"]
    found = kubeapi.nodes()
    return [f"node {n.name} is not ready" for n in NODES
            if n.name not in found or not kubeapi.is_ready(found[n.name])]


def up() -> None:
    folders = ensure_all(tools.all_tools().values())
    built = images.build(folders)
    fingerprint = _fingerprint(folders)
    record = Record.load()
    if record:
        if not record.mine:
            reason = ["it is of another checkout"]
        elif record.data["fingerprint"] != fingerprint:
            reason = ["the lab itself has changed"]
        else:
            reason = problems(record)
        if reason:
            say(f"a lab is recorded, but {'; '.join(reason)}")
            teardown.take_down(record)
            record = None
    if record:
        say("the lab is up; importing changed images")
        tools.link_bin(folders)
        network.route_pool()  # a test that was stopped may have left others
        _import(record, built)
    else:
        _create(fingerprint, folders, built)
    _describe(built)


def _create(fingerprint: str, folders: dict[str, Path], built: list[Image]) -> None:
    record = Record.create(fingerprint)
    say("making the network")
    if LOG.exists():
        previous = LOG.with_name("log.prev")
        shutil.rmtree(previous, ignore_errors=True)
        LOG.rename(previous)
    LOG.mkdir(parents=True)
    RUN.mkdir(parents=True, exist_ok=True)
    # In memory: quick, and gone as a whole when unmounted.
    run(["mount", "-n", "-t", "tmpfs", "-o", "mode=0755", "directlb-lab", RUN])
    cgroups.create()
    tools.link_bin(folders)
    network.create(record)
    pki.create()
    packages = folders["debian"] / "root/usr"
    api_is_up = threading.Event()
    failed = threading.Event()

    def start_node(running: node.RunningNode) -> None:
        running.start_runtime(packages, folders["cni"])
        while not api_is_up.wait(0.5):
            if failed.is_set():
                return
        running.start_kubelet()
        running.import_images(built)

    def start_control_plane() -> None:
        try:
            controlplane.start_api(record)
            api_is_up.set()
            controlplane.start_controllers(record)
        except BaseException:
            failed.set()
            raise

    say(f"starting {len(NODES)} nodes beside the control plane")
    errors: list[BaseException] = []

    def nodes() -> None:
        try:
            node.every_node(record, start_node)
        except BaseException as e:  # noqa: BLE001 - raised below
            errors.append(e)

    beside = threading.Thread(target=nodes)
    beside.start()
    start_control_plane()
    beside.join()
    if errors:
        raise errors[0]
    say("waiting for the nodes to be ready")
    wait_until(f"ready nodes; see {LOG}", _all_ready, 90, interval=0.3)
    record.complete()


def _all_ready() -> bool:
    """Also gives each node its Pod subnet, which is known beforehand here."""
    found = kubeapi.nodes()
    for n in NODES:
        if n.name in found and "podCIDR" not in found[n.name]["spec"]:
            kubeapi.request("PATCH", f"/api/v1/nodes/{n.name}",
                            {"spec": {"podCIDR": n.pod_subnet, "podCIDRs": [n.pod_subnet]}})
    return len(found) == len(NODES) and all(map(kubeapi.is_ready, found.values()))


def _import(record: Record, built: list[Image]) -> None:
    def one(running: node.RunningNode) -> None:
        for reference in running.import_images(built):
            note(f"{running.node.name}: imported {reference}")

    node.every_node(record, one)


def down() -> None:
    record = Record.load()
    if record:
        teardown.take_down(record)
        say(f"the lab is down; logs are in {record.data['repo']}/.lab/log")
    else:
        say("no lab is up on this machine")


def status() -> bool:
    record = Record.load()
    if not record:
        print("no lab is up on this machine")
        return False
    print(f"lab of {record.data['repo']}")
    if not record.mine:
        return False
    trouble = problems(record)
    for line in trouble or ["healthy"]:
        print(f"  {line}")
    for name, found in sorted(kubeapi.nodes().items()):
        print(f"  {name}: {'Ready' if kubeapi.is_ready(found) else 'NotReady'}")
    for p in record.live_processes():
        print(f"  {p['name']}: process {p['pid']}")
    return not trouble


def route(without: list[str]) -> None:
    record = Record.load()
    if not record or not record.mine:
        raise LabError("the lab of this checkout is not up")
    used = network.route_pool(frozenset(without))
    say(f"{settings.POOL} is routed over {', '.join(used) or 'no edge node'}")


def plug(name: str, state: str) -> None:
    """Cuts a node off the network as a pulled cable would, or joins it again."""
    record = Record.load()
    if not record or not record.mine:
        raise LabError("the lab of this checkout is not up")
    network.set_cable(name, state)
    say(f"the cable of {name} is {state}")


def _describe(built: list[Image]) -> None:
    settings.ENV_JSON.write_text(json.dumps({
        "kubeconfig": str(settings.KUBECONFIG),
        "bin": str(settings.BIN),
        "echo": str(settings.ECHO),
        "client_netns": settings.CLIENT_NETNS,
        "fabric_netns": settings.FABRIC_NETNS,
        "client_ip": settings.CLIENT_IP,
        "host_ip": settings.HOST_IP,
        "pool": settings.POOL,
        "nodes": [{"name": n.name, "netns": n.netns, "ip": n.ip, "edge": n.edge,
                   "pod_subnet": n.pod_subnet,
                   "containerd_socket": str(n.containerd_socket)} for n in NODES],
        "log": str(LOG),
        "images": {i.reference: i.id for i in built},
    }, indent=2) + "\n")
    say("the lab is up")
    for n in NODES:
        note(f"{n.name:8} {n.ip:12} Pods {n.pod_subnet}{'  edge' if n.edge else ''}")
    note(f"load balancer addresses: {settings.POOL}, over the edge nodes")
    note(f"send load from: ip netns exec {settings.CLIENT_NETNS} ...")
    note(f"tools: {settings.BIN}")
    note(f"export KUBECONFIG={settings.KUBECONFIG}")
