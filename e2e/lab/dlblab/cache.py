"""The cache of built tools: one folder for each tool and each version of its lock files.

A tool is built into a temporary folder that is renamed when complete, so a build
that is killed leaves no half tool behind, and each tool has a folder of its own,
so a changed helm does not rebuild Kubernetes.
"""

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from . import settings
from .shell import say


@dataclass(frozen=True)
class Tool:
    """Something that is built once and kept."""

    name: str
    inputs: tuple[Path, ...]  # the files that decide what is built
    recipe: str  # the rest that decides it, such as flags
    title: str  # for the progress line
    build: Callable[[Path], None]  # fills the empty folder it is given

    @property
    def path(self) -> Path:
        digest = hashlib.sha256(f"{settings.ARCH} {self.recipe}".encode())
        for f in self.inputs:
            digest.update(f"\0{f.name}\0".encode() + f.read_bytes())
        return settings.CACHE / f"{self.name}-{digest.hexdigest()[:16]}"

    def ensure(self) -> Path:
        """Builds the tool unless it is cached; returns its folder."""
        path = self.path
        if path.is_dir():
            return path
        settings.CACHE.mkdir(parents=True, exist_ok=True)
        with open(settings.CACHE / f"{self.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.is_dir():  # another build finished it while we waited
                return path
            # We hold the lock, so whatever is half built belongs to nobody.
            for leftover in settings.CACHE.glob(f"{self.name}.tmp-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            say(f"building {self.title}")
            half = Path(tempfile.mkdtemp(prefix=f"{self.name}.tmp-", dir=settings.CACHE))
            half.chmod(0o755)
            try:
                self.build(half)
                half.rename(path)
            finally:
                shutil.rmtree(half, ignore_errors=True)
        return path


def ensure_all(tools: Iterable[Tool]) -> dict[str, Path]:
    return {t.name: t.ensure() for t in tools}
