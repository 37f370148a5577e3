"""The few tools that come from the distribution: runc, iptables, conntrack, Prometheus.

What the host has is used. The rest is downloaded as Debian packages and unpacked
into the cache; nothing is installed on the host. The nodes see the unpacked
packages laid over their own /usr, as if they were installed there.
"""

import platform
import shutil
from pathlib import Path

from .cache import Tool
from .settings import TOOLS
from .shell import LabError, retry, run

_LIST = TOOLS / "debian" / "packages.txt"
_RECIPE = "1"

# A command of an unpacked package, runnable on the host: it finds its libraries.
_WRAPPER = """#!/bin/sh
usr=$(dirname "$(readlink -f "$0")")/root/usr
export LD_LIBRARY_PATH="$usr/lib/{triplet}" XTABLES_LIBDIR="$usr/lib/{triplet}/xtables"
exec "$usr/{path}" "$@"
"""


def missing() -> dict[str, list[str]]:
    """The commands that the host lacks, with the packages to get them from."""
    wanted = {}
    for line in _LIST.read_text().splitlines():
        command, *packages = line.split("#")[0].split() or [""]
        if command and not shutil.which(command, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            wanted[command] = packages
    return wanted


def tool() -> Tool:
    lacking = missing()
    release = platform.freedesktop_os_release()
    recipe = f"{_RECIPE} {release.get('ID')} {release.get('VERSION_ID')} {sorted(lacking)}"
    names = ", ".join(lacking) or "nothing: the host has all"
    return Tool("debian", (_LIST,), recipe, f"packages from the distribution: {names}",
                lambda target: _build(target, lacking))


def _build(target: Path, lacking: dict[str, list[str]]) -> None:
    root = target / "root"
    (root / "usr").mkdir(parents=True)
    if not lacking:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"please install {', '.join(lacking)}: this host has no apt-get to get them")
    downloads = target / "download"
    downloads.mkdir()
    packages = sorted({p for group in lacking.values() for p in group})
    download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages]

    def fetch() -> None:
        try:
            run(download, cwd=downloads)
        except LabError:
            run(["apt-get", "update"])  # the lists are absent or out of date
            run(download, cwd=downloads)

    retry("downloading packages", fetch)
    for package in sorted(downloads.glob("*.deb")):
        run(["dpkg", "-x", package, root])
    shutil.rmtree(downloads)
    # Older packages put their files into /lib and /sbin, which are links today.
    for name in ("bin", "sbin", "lib"):
        if (root / name).is_dir() and not (root / name).is_symlink():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
    if "iptables" in lacking:
        # The package leaves these links to the alternatives system.
        for command in ("iptables", "ip6tables"):
            for suffix in ("", "-save", "-restore"):
                link = root / "usr" / "sbin" / (command + suffix)
                link.unlink(missing_ok=True)
                link.symlink_to("xtables-nft-multi")
    triplet = f"{platform.machine()}-linux-gnu"
    for path in ("bin/prometheus", "bin/promtool", "sbin/conntrack"):
        if (root / "usr" / path).exists():
            wrapper = target / Path(path).name
            wrapper.write_text(_WRAPPER.format(triplet=triplet, path=path))
            wrapper.chmod(0o755)
