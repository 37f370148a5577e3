"""Names, addresses and versions: everything that the other modules must agree on.

Kept apart so that the network plan can be read, and changed, in one place.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

KUBERNETES = "1.36.3"
ENVOY = "1.40.0"

LAB_DIR = Path(__file__).resolve().parents[1]
REPO = LAB_DIR.parents[1]
TOOLS = LAB_DIR / "tools"
ECHO_SOURCE = REPO / "e2e" / "echo"

# What one checkout keeps. RUN is a tmpfs, gone after `down`; the rest stays.
STATE = REPO / ".lab"
RUN = STATE / "run"
LOG = STATE / "log"
IMAGES = STATE / "images"
BIN = STATE / "bin"
ECHO = BIN / "lab-echo"
KUBECONFIG = STATE / "kubeconfig"
ENV_JSON = STATE / "env.json"

# What the machine keeps: at most one lab runs on it, whichever checkout it is of.
RECORD = Path("/run/directlb-lab.json")
LOCK = Path("/run/directlb-lab.lock")

CACHE = Path(os.environ.get("DIRECTLB_CACHE") or Path.home() / ".cache" / "directlb")

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

# Every process of the lab, daemon or container, lives below this cgroup.
CGROUP = "directlb-lab"

HOST_IP = "10.250.0.1"
NODE_PREFIX = 24
CLIENT_IP = "10.250.0.100"
POOL = "10.250.100.0/24"
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
SERVICE_API_IP = "10.96.0.1"

API_PORT = 6443
API_URL = f"https://{HOST_IP}:{API_PORT}"
ETCD_PORT = 23790
ETCD_PEER_PORT = 23800

HOST_LINK = "dlb-host"
FABRIC_NETNS = "dlb-fabric"
CLIENT_NETNS = "dlb-client"


@dataclass(frozen=True)
class Node:
    """One Kubernetes node: a network, mount and host-name namespace of its own."""

    name: str
    index: int
    edge: bool

    @property
    def netns(self) -> str:
        return f"dlb-{self.name}"

    @property
    def ip(self) -> str:
        return f"10.250.0.{10 + self.index}"

    @property
    def pod_subnet(self) -> str:
        return f"10.244.{self.index}.0/24"

    @property
    def dir(self) -> Path:
        return RUN / self.name

    @property
    def log(self) -> Path:
        """Appears as /var/log in the node."""
        return LOG / self.name

    @property
    def containerd_socket(self) -> Path:
        """As the host sees it; the node itself sees /run/containerd/containerd.sock."""
        return self.dir / "run" / "containerd" / "containerd.sock"


NODES = (
    Node("worker1", 1, edge=False),
    Node("worker2", 2, edge=False),
    Node("edge1", 3, edge=True),
    Node("edge2", 4, edge=True),
)
EDGES = tuple(n for n in NODES if n.edge)
WORKERS = tuple(n for n in NODES if not n.edge)
NETNS = (FABRIC_NETNS, CLIENT_NETNS, *(n.netns for n in NODES))
