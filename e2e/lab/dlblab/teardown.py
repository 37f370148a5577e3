"""Takes a lab down from its record alone, whatever state it is in.

Processes are found by what they are, never by name: by recorded id and start
time, by the lab's cgroup, or by being in one of the lab's network namespaces.
"""

import os
import signal
import time
from pathlib import Path

from . import cgroups
from .record import Record, is_zombie, process_start
from .shell import note, run, say

_NETNS = Path("/run/netns")


def _namespace_ids(names: list[str]) -> set[int]:
    found = set()
    for name in names:
        try:
            found.add((_NETNS / name).stat().st_ino)
        except OSError:
            pass
    # One that was only half made is a plain file, which has no process in it.
    return found


def _processes(record: Record) -> set[int]:
    ours = {p["pid"] for p in record.live_processes()} | cgroups.members(record.data["cgroup"])
    namespaces = _namespace_ids(record.data["netns"])
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/net").stat().st_ino in namespaces:
                    ours.add(int(entry.name))
            except OSError:
                pass
    return {p for p in ours if p != os.getpid() and process_start(p) is not None}


def _stop_processes(record: Record) -> None:
    """Kills until none is left: a dying container manager may still start one."""
    deadline = time.monotonic() + 20
    while ours := _processes(record):
        for pid in ours:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > deadline:
            note(f"these processes do not die: {sorted(ours)}")
            return
        time.sleep(0.1)


def mounts_below(path: str) -> list[str]:
    """What is mounted at or below the path, in the order to unmount it."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4].encode().decode("unicode_escape")
        if target == path or target.startswith(path + "/"):
            found.append(target)
    return found[::-1]


def take_down(record: Record) -> None:
    data = record.data
    say(f"taking down the lab of {data['repo']}")
    _stop_processes(record)
    for mount in data["mounts"]:
        for target in mounts_below(mount):
            run(["umount", "-n", target], check=False)
        for target in mounts_below(mount):  # still in use by somebody's shell
            run(["umount", "-n", "--lazy", target])
        if Path(mount).is_dir():
            Path(mount).rmdir()
    for name in data["netns"]:
        if (_NETNS / name).exists():
            run(["ip", "netns", "delete", name], check=False)
            (_NETNS / name).unlink(missing_ok=True)  # half made: not mounted yet
    if data["made_netns_dir"] and _NETNS.is_dir() and not any(_NETNS.iterdir()):
        run(["umount", "-n", _NETNS], check=False)
        _NETNS.rmdir()
    for link in data["links"]:
        if Path("/sys/class/net", link).exists():
            run(["ip", "link", "delete", link], check=False)
    if busy := cgroups.remove(data["cgroup"]):
        note(f"these cgroups stay: {busy}")
    if record.this_boot:
        for path, value in data["sysctls"].items():
            Path(path).write_text(value)
    for name in ("kubeconfig", "env.json"):
        Path(data["repo"], ".lab", name).unlink(missing_ok=True)
    _settle(record)
    record.remove()


def _settle(record: Record) -> None:
    """Waits for what goes by itself a moment later: the kernel removes namespaces in
    the background, and killed processes stay as zombies until init has reaped them."""
    left: list[str] = []
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [x for x in record.data["links"] if Path("/sys/class/net", x).exists()]
        left += [p["name"] for p in record.data["processes"]
                 if record.this_boot and is_zombie(p["pid"])]
        if not left:
            return
        time.sleep(0.05)
    note(f"still going away: {left}")
