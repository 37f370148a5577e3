"""The lab's network: every machine of the lab is a network namespace.

    host (10.250.0.1)   client   worker1  worker2   edge1   edge2
          \\_____________\\________|________|________/_______/
                     a bridge in a namespace of its own

The bridge is not on the host, so bridged traffic never passes the host's
iptables and the host keeps its bridge settings. Pod subnets are reached by plain
routes, and the load balancer's addresses by ECMP over the edge nodes, as routers
do it in a real network.
"""

from pathlib import Path

from . import settings
from .record import Record
from .settings import CLIENT_IP, CLIENT_NETNS, EDGES, FABRIC_NETNS, HOST_IP, HOST_LINK, NODES, POOL
from .shell import LabError, run

_HOST_SYSCTLS = {
    # Flows, not only address pairs, are spread over the edge nodes.
    "net/ipv4/fib_multipath_hash_policy": "1",
    # Each kubelet and containerd watches many files; defaults suit one of each.
    "fs/inotify/max_user_instances": "8192",
    "fs/inotify/max_user_watches": "1048576",
}


def _batch(commands: list[str], netns: str | None = None) -> None:
    inside = ["-n", netns] if netns else []
    run(["ip", *inside, "-batch", "-"], stdin="\n".join(commands) + "\n")


def _write_sysctls(netns: str, values: dict[str, str]) -> None:
    """Sets what exists: /proc/sys/net shows the namespace of whoever writes."""
    script = "; ".join(f"if [ -e /proc/sys/{k} ]; then echo {v} > /proc/sys/{k}; fi"
                       for k, v in values.items())
    run(["nsenter", f"--net=/run/netns/{netns}", "sh", "-c", script])


def _tune_host(record: Record) -> None:
    for name, wanted in _HOST_SYSCTLS.items():
        path = Path("/proc/sys", name)
        old = path.read_text().strip()
        enough = name.startswith("fs/") and int(old) >= int(wanted)
        if old != wanted and not enough:
            record.add_sysctl(str(path), old)
            path.write_text(wanted)


def create(record: Record) -> None:
    _tune_host(record)
    _batch([f"netns add {n}" for n in settings.NETNS])
    _write_sysctls(FABRIC_NETNS, {f"net/bridge/bridge-nf-call-{t}": "0"
                                  for t in ("iptables", "ip6tables", "arptables")})
    ports = {n.name: n.netns for n in NODES} | {"client": CLIENT_NETNS}
    fabric = ["link add br0 type bridge", "link set br0 up"]
    for port, netns in ports.items():
        fabric += [f"link add {port} type veth peer name eth0 netns {netns}",
                   f"link set {port} master br0 up"]
    _batch(fabric, FABRIC_NETNS)

    _batch([f"link add {HOST_LINK} type veth peer name host netns {FABRIC_NETNS}",
            f"addr add {HOST_IP}/{settings.NODE_PREFIX} dev {HOST_LINK}",
            f"link set {HOST_LINK} up"])
    _batch(["link set host master br0 up"], FABRIC_NETNS)

    pods = [(n, f"route replace {n.pod_subnet} via {n.ip}") for n in NODES]
    _batch([route for _, route in pods])
    forwarding = {
        "net/ipv4/ip_forward": "1",
        "net/ipv4/conf/all/rp_filter": "0",
        "net/ipv4/conf/default/rp_filter": "0",
        "net/ipv4/fib_multipath_hash_policy": "1",
        # A Service's answer to a Pod on the same node must pass conntrack again.
        "net/bridge/bridge-nf-call-iptables": "1",
    }
    for node in NODES:
        _write_sysctls(node.netns, forwarding)
        _connect(node.netns, node.ip, [route for other, route in pods if other != node])
        if node.edge:
            # The whole pool is local here, so a proxy may bind any address of it.
            _batch([f"route add local {POOL} dev lo"], node.netns)
    _write_sysctls(CLIENT_NETNS, {"net/ipv4/fib_multipath_hash_policy": "1",
                                  # Tests open connections by the ten thousand.
                                  "net/ipv4/ip_local_port_range": "10240 65535"})
    _connect(CLIENT_NETNS, CLIENT_IP, [route for _, route in pods])
    route_pool()


def _connect(netns: str, ip: str, routes: list[str]) -> None:
    _batch(["link set lo up", "link set eth0 up",
            f"addr add {ip}/{settings.NODE_PREFIX} dev eth0",
            f"route add default via {HOST_IP}", *routes], netns)


def set_cable(port: str, state: str) -> None:
    """Sets a node's port of the bridge `up` or `down`."""
    if port not in {n.name for n in NODES}:
        raise LabError(f"no such node: {port}")
    _batch([f"link set {port} {state}"], FABRIC_NETNS)


def route_pool(without: frozenset[str] = frozenset()) -> list[str]:
    """Points the pool's routes at the edge nodes, leaving some out as a router would
    that found them dead. Returns the names of the edge nodes in use."""
    edges = [e for e in EDGES if e.name not in without]
    unknown = without - {e.name for e in EDGES}
    if unknown:
        raise LabError(f"no such edge node: {', '.join(sorted(unknown))}")
    if edges:
        hops = " ".join(f"nexthop via {e.ip}" for e in edges)
        command = f"route replace {POOL} {hops}"
    else:
        command = f"route replace unreachable {POOL}"
    # The workers too: Pods may use a load balancer's address like anybody.
    for netns in (None, CLIENT_NETNS, *(n.netns for n in settings.WORKERS)):
        # Replaced in one step: without a moment in which requests would fail.
        _batch([command], netns)
    return [e.name for e in edges]
