"""The lab's cgroup: it holds every process of the lab, so that `down` finds them all.

Daemons are put into <root>/daemons; the kubelets are told to make their Pods'
cgroups below <root> too. Works with cgroup v1 and v2.
"""

import contextlib
import os
import time
from pathlib import Path

from . import settings

_MOUNT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """The mounted cgroup hierarchies: one with v2, one for each controller with v1."""
    if (_MOUNT / "cgroup.controllers").exists():
        return [_MOUNT]
    return sorted(d for d in _MOUNT.iterdir() if (d / "cgroup.procs").exists())


def _for_daemons() -> list[Path]:
    """One hierarchy is enough to find a process by; v1's `pids` needs no set-up."""
    found = hierarchies()
    named = [h for h in found if h.name in ("pids", "freezer", "memory")]
    return (named or found)[-1:]


def create() -> None:
    """A cgroup for the daemons, and one in which each kubelet makes those of its Pods."""
    for h in hierarchies():
        (h / settings.CGROUP).mkdir(exist_ok=True)
        available = h / "cgroup.controllers"
        if available.exists():  # v2: children get only the controllers handed down
            for parent in (h, h / settings.CGROUP):
                for controller in available.read_text().split():
                    with contextlib.suppress(OSError):  # some cannot be handed down
                        (parent / "cgroup.subtree_control").write_text(f"+{controller}")
        for node in settings.NODES:
            (h / settings.CGROUP / node.name).mkdir(parents=True, exist_ok=True)
        _weigh(h / settings.CGROUP)
    for h in _for_daemons():
        (h / settings.CGROUP / "daemons").mkdir(parents=True, exist_ok=True)


def _weigh(cgroup: Path) -> None:
    """Gives the cluster the larger part of the CPU.

    To the scheduler the whole cluster is one cgroup, which would get no more than a single
    compiler or test beside it: proxies would stand still for seconds.
    """
    for name, most in (("cpu.shares", "262144"), ("cpu.weight", "10000")):
        if (cgroup / name).exists():
            (cgroup / name).write_text(most)


def daemon_files() -> list[str]:
    return [str(h / settings.CGROUP / "daemons" / "cgroup.procs") for h in _for_daemons()]


def members(cgroup: str) -> set[int]:
    """The ids of all processes in or below the cgroup, in any hierarchy."""
    found: set[int] = set()
    for h in hierarchies():
        for folder, _, _ in os.walk(h / cgroup):
            try:
                found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
            except OSError:
                pass  # removed while we looked, or a threaded v2 cgroup
    return found


def remove(cgroup: str, timeout: float = 5) -> list[str]:
    """Removes the emptied cgroups, deepest first; returns those that would not go.

    The kernel calls a cgroup busy for a moment after its last process died.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = []
        for h in hierarchies():
            for folder, _, _ in os.walk(h / cgroup, topdown=False):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    pass
                except OSError:
                    left.append(folder)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)
