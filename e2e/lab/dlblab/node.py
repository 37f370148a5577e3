"""One node: containerd, kubelet and kube-proxy in namespaces of their own.

A node has its own network, host name and view of the file system: its /run,
/var/log and /var/lib are not the host's, and packages that the host lacks appear
in its /usr. So every program uses its usual paths, nodes do not meet in shared
files, and when the node's last process dies, all its mounts are gone.
"""

import json
import os
import socket
import threading
from pathlib import Path

from . import pki, processes
from .images import Image
from .record import Record
from .settings import API_URL, BIN, CGROUP, NODES, POD_CIDR, Node
from .shell import LabError, run, wait_until

# Runs in the new namespaces and then stays, to hold them.
_INIT = """
set -e
mount -n --make-rprivate /
mount -n --make-rshared /
hostname "$NODE"
mount -n --bind "$DIR/run" /run
mount -n --bind "$LOGS" /var/log
mount -n -t overlay -o lowerdir="$PACKAGES:/usr" packages /usr
mount -n -t overlay -o lowerdir=/var/lib,upperdir="$DIR/lib",workdir="$DIR/lib.work" lib /var/lib
mkdir -p /var/lib/kubelet /var/lib/containerd /run/lock
mount -n --bind "$DIR/kubelet" /var/lib/kubelet
mount -n --bind "$DIR/containerd" /var/lib/containerd
echo > /run/node-is-set-up
exec sleep infinity
"""

_CONTAINERD = """\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.nri.v1.nri",
]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "directlb.local/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
# The machine may itself be a container or a small VM, where neither works.
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{cni}"]
conf_dir = "{conf}"
"""


def _cni(node: Node) -> dict:
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False,
         "hairpinMode": True,
         "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam",
                  "ranges": [[{"subnet": node.pod_subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": True}}]}


def _kubelet(node: Node) -> dict:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": str(pki.CA)}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki.PKI}/serving-{node.name}.crt",
        "tlsPrivateKeyFile": f"{pki.PKI}/serving-{node.name}.key",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{CGROUP}/{node.name}",
        # Several kubelets share one machine: none may limit what all Pods get together.
        "cgroupsPerQOS": True, "enforceNodeAllocatable": [], "failCgroupV1": False,
        "failSwapOn": False, "evictionHard": {}, "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "volumePluginDir": "/run/flexvolume",
        "resolvConf": "/run/resolv.conf", "clusterDomain": "cluster.local",
        "maxPods": 250, "podsPerCore": 0, "registryPullQPS": 0, "eventRecordQPS": 0,
        "serializeImagePulls": False, "kubeAPIQPS": 100, "kubeAPIBurst": 200,
        # Changes show at once, and a dead node within the lease's time.
        "nodeStatusUpdateFrequency": "2s", "nodeLeaseDurationSeconds": 12,
        "syncFrequency": "10s", "shutdownGracePeriod": "0s",
        "registerWithTaints": [{"key": "directlb.io/edge", "value": "true",
                                "effect": "NoSchedule"}] if node.edge else [],
    }


class RunningNode:
    """A node while `up` starts it or puts images into it."""

    def __init__(self, record: Record, node: Node):
        self.record, self.node = record, node

    def _start(self, name: str, *argv: object) -> int:
        environment = {"PATH": f"{BIN}:{os.environ['PATH']}"}
        return processes.start(self.record, f"{name}-{self.node.name}", argv,
                               self.node.log / f"{name}.log", environment)

    def enter(self) -> list[str]:
        """The command prefix that runs a program in the node."""
        name = f"init-{self.node.name}"
        for p in self.record.live_processes():
            if p["name"] == name:
                return ["nsenter", f"--target={p['pid']}", "--net", "--mount", "--uts", "--"]
        raise LabError(f"node {self.node.name} does not run")

    def start_runtime(self, packages: Path, cni: Path) -> None:
        """Makes the namespaces and starts containerd in them."""
        node = self.node
        for folder in ("run", "lib", "lib.work", "kubelet", "containerd"):
            (node.dir / folder).mkdir(parents=True)
        node.log.mkdir(parents=True, exist_ok=True)
        (node.dir / "run/resolv.conf").write_text("")
        (node.dir / "cni").mkdir()
        (node.dir / "cni/10-pods.conflist").write_text(json.dumps(_cni(node)))
        (node.dir / "kubelet.json").write_text(json.dumps(_kubelet(node)))
        (node.dir / "containerd.toml").write_text(
            _CONTAINERD.format(cni=cni, conf=node.dir / "cni"))
        self._start("init", "env", f"NODE={node.name}", f"DIR={node.dir}", f"LOGS={node.log}",
                    f"PACKAGES={packages}", "nsenter", f"--net=/run/netns/{node.netns}",
                    "unshare", "--mount", "--uts", "sh", "-c", _INIT)
        wait_until(f"namespaces of {node.name}; see {node.log}/init.log",
                   (node.dir / "run/node-is-set-up").exists, 20)
        self._start("containerd", *self.enter(), BIN / "containerd",
                    "--config", node.dir / "containerd.toml")
        wait_until(f"containerd of {node.name}; see {node.log}/containerd.log",
                   lambda: _accepts(node.containerd_socket), 60)

    def start_kubelet(self) -> None:
        node, enter = self.node, self.enter()
        labels = ["--node-labels=directlb.io/edge=true"] if node.edge else []
        self._start("kubelet", *enter, BIN / "kubelet", f"--config={node.dir}/kubelet.json",
                    f"--kubeconfig={pki.PKI}/kubelet-{node.name}.kubeconfig",
                    f"--hostname-override={node.name}", f"--node-ip={node.ip}",
                    "--root-dir=/var/lib/kubelet", "--housekeeping-interval=30s", *labels)
        self._start("kube-proxy", *enter, BIN / "kube-proxy", "--proxy-mode=iptables",
                    f"--kubeconfig={pki.PKI}/kube-proxy.kubeconfig", f"--master={API_URL}",
                    f"--hostname-override={node.name}", f"--bind-address={node.ip}",
                    f"--cluster-cidr={POD_CIDR}", "--iptables-min-sync-period=200ms",
                    # Limits that only the host's own network namespace may set.
                    "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s",
                    "--conntrack-tcp-timeout-close-wait=0s")

    def import_images(self, images: list[Image]) -> list[str]:
        """Imports the images that the node does not have; returns their references."""
        known_file = self.node.dir / "images.json"
        known = json.loads(known_file.read_text()) if known_file.exists() else {}
        imported = []
        ctr = [*self.enter(), BIN / "ctr", "--namespace", "k8s.io", "images"]
        for image in images:
            old = known.get(image.reference)
            if old == image.id:
                continue
            run([*ctr, "import", image.archive], timeout=120)
            if old:
                # The runtime also names images by their digest and so would keep this
                # one, in memory, for ever. Containers that still run it are not harmed.
                run([*ctr, "rm", old], check=False)
            known[image.reference] = image.id
            known_file.write_text(json.dumps(known))
            imported.append(image.reference)
        return imported


def _accepts(address: Path) -> bool:
    """containerd accepts connections once all its plugins have started."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(address))
            return True
        except OSError:
            return False


def every_node(record: Record, action) -> None:
    """Runs an action for all nodes side by side; raises the first error, if any."""
    errors: list[BaseException] = []

    def guarded(node: Node) -> None:
        try:
            action(RunningNode(record, node))
        except BaseException as e:  # noqa: BLE001 - reported by the main thread
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in NODES]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
