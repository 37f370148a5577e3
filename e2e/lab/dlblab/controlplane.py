"""The control plane: etcd, API server, controller manager and scheduler, on the host."""

from . import kubeapi, pki, processes, settings
from .record import Record
from .settings import BIN, ETCD_PEER_PORT, ETCD_PORT, HOST_IP, LOG, POD_CIDR, RUN, SERVICE_CIDR
from .shell import LabError, say, wait_until

_CLIENT_RATE = ["--kube-api-qps=200", "--kube-api-burst=400"]


def _start(record: Record, name: str, *flags: str) -> None:
    processes.start(record, name, [BIN / name, *flags], LOG / f"{name}.log")


def start_api(record: Record) -> None:
    """Starts etcd and the API server, and waits until it answers."""
    say("starting etcd and the API server")
    etcd = f"http://127.0.0.1:{ETCD_PORT}"
    # Nothing here need survive a crash of the machine, so etcd need not sync.
    _start(record, "etcd", f"--data-dir={RUN / 'etcd'}", "--unsafe-no-fsync",
           f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
           f"--listen-peer-urls=http://127.0.0.1:{ETCD_PEER_PORT}",
           f"--initial-advertise-peer-urls=http://127.0.0.1:{ETCD_PEER_PORT}",
           f"--initial-cluster=default=http://127.0.0.1:{ETCD_PEER_PORT}")
    _start(record, "kube-apiserver", f"--etcd-servers={etcd}",
           # The lab's address alone, so that the host's own ports stay free.
           f"--bind-address={HOST_IP}", f"--advertise-address={HOST_IP}",
           f"--secure-port={settings.API_PORT}",
           f"--tls-cert-file={pki.PKI}/apiserver.crt",
           f"--tls-private-key-file={pki.PKI}/apiserver.key",
           f"--client-ca-file={pki.CA}",
           f"--service-account-key-file={pki.PKI}/sa.pub",
           f"--service-account-signing-key-file={pki.PKI}/sa.key",
           "--service-account-issuer=https://kubernetes.default.svc",
           f"--service-cluster-ip-range={SERVICE_CIDR}",
           # The host has no kube-proxy: webhooks are called at their Pods, not at the Service's address.
           "--enable-aggregator-routing=true",
           "--authorization-mode=Node,RBAC", "--allow-privileged",
           "--enable-admission-plugins=NodeRestriction,MutatingAdmissionWebhook,"
           "ValidatingAdmissionWebhook",
           f"--kubelet-certificate-authority={pki.CA}",
           f"--kubelet-client-certificate={pki.PKI}/apiserver-kubelet.crt",
           f"--kubelet-client-key={pki.PKI}/apiserver-kubelet.key",
           "--kubelet-preferred-address-types=InternalIP",
           f"--requestheader-client-ca-file={pki.CA}",
           "--requestheader-allowed-names=front-proxy-client",
           "--requestheader-username-headers=X-Remote-User",
           "--requestheader-group-headers=X-Remote-Group",
           "--requestheader-extra-headers-prefix=X-Remote-Extra-",
           f"--proxy-client-cert-file={pki.PKI}/front-proxy.crt",
           f"--proxy-client-key-file={pki.PKI}/front-proxy.key",
           "--profiling=false", "--shutdown-delay-duration=0s")
    alive = {"etcd", "kube-apiserver"}

    def answers() -> bool:
        dead = alive - {p["name"] for p in record.live_processes()}
        if dead:
            raise LabError(f"{', '.join(dead)} died; see {LOG}")
        return kubeapi.ready()

    wait_until("the API server", answers, 60)


def start_controllers(record: Record) -> None:
    say("starting the controller manager and the scheduler")
    manager = f"{pki.PKI}/controller-manager.kubeconfig"
    _start(record, "kube-controller-manager", f"--kubeconfig={manager}",
           f"--authentication-kubeconfig={manager}", f"--authorization-kubeconfig={manager}",
           "--bind-address=127.0.0.1", "--leader-elect=false", *_CLIENT_RATE,
           f"--service-account-private-key-file={pki.PKI}/sa.key",
           f"--root-ca-file={pki.CA}", f"--cluster-signing-cert-file={pki.CA}",
           f"--cluster-signing-key-file={pki.PKI}/ca.key",
           "--use-service-account-credentials",
           # Its default is below /usr, where it would make the folder.
           f"--flex-volume-plugin-dir={RUN / 'flexvolume'}",
           # The lab gives each node its Pod subnet itself, to match the routes.
           "--allocate-node-cidrs=false", f"--cluster-cidr={POD_CIDR}",
           # A dead node shows within the time a test can wait.
           "--node-monitor-grace-period=20s", "--node-monitor-period=2s",
           "--concurrent-deployment-syncs=10", "--concurrent-replicaset-syncs=10",
           "--concurrent-endpoint-syncs=10", "--concurrent-service-endpoint-syncs=10",
           "--concurrent-gc-syncs=20", "--concurrent-namespace-syncs=20",
           "--terminated-pod-gc-threshold=100")
    scheduler = f"{pki.PKI}/scheduler.kubeconfig"
    _start(record, "kube-scheduler", f"--kubeconfig={scheduler}",
           f"--authentication-kubeconfig={scheduler}", f"--authorization-kubeconfig={scheduler}",
           "--bind-address=127.0.0.1", "--leader-elect=false", *_CLIENT_RATE)
