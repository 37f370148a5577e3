"""The machine-wide record of the one lab that may run, and the lock that guards it.

The record names everything that `down` must remove. It is written before the
thing it names is made, so that a lab whose `up` was killed at any moment can be
taken down from the record alone, from any checkout.
"""

import contextlib
import fcntl
import json
import os
import threading
from pathlib import Path

from . import settings
from .shell import LabError, note

_HALF_WRITTEN = settings.RECORD.with_suffix(".json.tmp")


@contextlib.contextmanager
def locked():
    """Only one `up` or `down` at a time; the kernel frees the lock if its holder dies."""
    while True:
        with open(settings.LOCK, "w") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note("another lab command is running on this machine; waiting for it")
                fcntl.flock(f, fcntl.LOCK_EX)
            # Whoever held the lock may have removed the file that we had opened.
            try:
                current = settings.LOCK.stat().st_ino == os.fstat(f.fileno()).st_ino
            except FileNotFoundError:
                current = False
            if not current:
                continue
            try:
                yield
            finally:
                if not settings.RECORD.exists():
                    settings.LOCK.unlink()
            return


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it is gone or a zombie.

    Together with the id this names one process for ever: ids are reused.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name, in brackets, may itself contain spaces and brackets.
    fields = stat[stat.rindex(")") + 2:].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_zombie(pid: int) -> bool:
    """Dead, but its parent has not taken note yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Record:
    """The record as a file that is replaced as a whole on each change."""

    def __init__(self, data: dict):
        self.data = data
        self._mutex = threading.Lock()

    @classmethod
    def load(cls) -> "Record | None":
        try:
            return cls(json.loads(settings.RECORD.read_text()))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as e:
            raise LabError(f"{settings.RECORD} is not readable ({e})") from e

    @classmethod
    def create(cls, fingerprint: str) -> "Record":
        """Names the whole plan at once; only process ids are not known beforehand."""
        record = cls({
            "repo": str(settings.REPO),
            "boot_id": boot_id(),
            "fingerprint": fingerprint,
            "complete": False,
            "netns": list(settings.NETNS),
            # `ip netns` makes and mounts this folder; it is ours to remove if so.
            "made_netns_dir": not Path("/run/netns").exists(),
            "links": [settings.HOST_LINK],
            "mounts": [str(settings.RUN)],
            "cgroup": settings.CGROUP,
            "sysctls": {},
            "processes": [],
        })
        record._save()
        return record

    @property
    def mine(self) -> bool:
        return self.data["repo"] == str(settings.REPO)

    @property
    def this_boot(self) -> bool:
        return self.data["boot_id"] == boot_id()

    def add_process(self, name: str, pid: int) -> None:
        with self._mutex:
            self.data["processes"].append({"name": name, "pid": pid, "start": process_start(pid)})
            self._save()

    def add_sysctl(self, path: str, value: str) -> None:
        with self._mutex:
            self.data["sysctls"].setdefault(path, value)
            self._save()

    def complete(self) -> None:
        with self._mutex:
            self.data["complete"] = True
            self._save()

    def live_processes(self) -> list[dict]:
        """Those that still run; after a reboot every id names something else."""
        if not self.this_boot:
            return []
        return [p for p in self.data["processes"]
                if p["start"] is not None and process_start(p["pid"]) == p["start"]]

    def remove(self) -> None:
        _HALF_WRITTEN.unlink(missing_ok=True)
        settings.RECORD.unlink(missing_ok=True)

    def _save(self) -> None:
        with open(_HALF_WRITTEN, "w") as f:
            json.dump(self.data, f, indent=1)
            f.flush()
            os.fsync(f.fileno())
        _HALF_WRITTEN.replace(settings.RECORD)
