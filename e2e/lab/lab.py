#!/usr/bin/env python3
"""Command line of the lab: a real Kubernetes cluster on this machine.

Needs Linux, root, Python 3.11, Go, openssl, iproute2 and util-linux, and access
to package registries for the first build.
"""

import argparse
import os
import shutil
import sys

from dlblab import images, lab, settings, tools
from dlblab.cache import ensure_all
from dlblab.record import locked
from dlblab.shell import LabError, say


def _need(commands: str, root: bool) -> None:
    absent = [c for c in commands.split() if not shutil.which(c)]
    if absent:
        raise LabError(f"please install: {', '.join(absent)}")
    if root and os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and mounts, so it must run as root")


def build(args: argparse.Namespace) -> None:
    """build the tools that are not in the cache"""
    _need("go", root=False)
    known = tools.all_tools()
    for name in args.tools:
        if name not in known | tools.optional_tools():
            raise LabError(f"no such tool: {name}; there are "
                           f"{', '.join(known | tools.optional_tools())}")
    wanted = [(known | tools.optional_tools())[n] for n in args.tools] or list(known.values())
    for name, folder in ensure_all(wanted).items():
        say(f"{name}: {folder}")


def make_images(_: argparse.Namespace) -> None:
    """make the container images"""
    _need("go", root=False)
    for image in images.build(_image_tools()):
        say(f"{image.reference}  {image.id[:19]}  {image.archive}")


def push(args: argparse.Namespace) -> None:
    """push the images to a registry, for a cluster other than the lab"""
    registry = args.registry or os.environ.get("REGISTRY")
    if not registry:
        raise LabError("please name the registry: push REGISTRY, or set REGISTRY")
    crane = tools.optional_tools()["crane"].ensure() / "crane"
    for target in images.push(_image_tools(), registry, crane):
        print(target)


def up(_: argparse.Namespace) -> None:
    """bring the lab up, or put changed images into the one that is up"""
    _need("go openssl ip nsenter unshare mount umount", root=True)
    with locked():
        lab.up()


def down(_: argparse.Namespace) -> None:
    """take down whatever lab runs on this machine"""
    _need("ip umount", root=True)
    with locked():
        lab.down()


def status(_: argparse.Namespace) -> None:
    """tell what runs; fails unless this checkout's lab is healthy"""
    sys.exit(0 if lab.status() else 1)


def kubeconfig(_: argparse.Namespace) -> None:
    """print the path of the kubeconfig"""
    if not settings.KUBECONFIG.exists():
        raise LabError("the lab is not up")
    print(settings.KUBECONFIG)


def route(args: argparse.Namespace) -> None:
    """route the pool over all edge nodes, or `without` some"""
    if (args.which == "all") == bool(args.edges):
        raise LabError("say either `route all` or `route without NAME...`")
    with locked():
        lab.route(args.edges)


def cable(args: argparse.Namespace) -> None:
    """cut a node off the network (down), or join it again (up)"""
    with locked():
        lab.plug(args.node, args.state)


def _image_tools():
    known = tools.all_tools()
    return ensure_all(known[n] for n in ("pause", "echo", "envoy"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, action) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=action.__doc__)
        command.set_defaults(action=action)
        return command

    add("build", build).add_argument("tools", nargs="*", help="all that `up` needs, if none")
    add("images", make_images)
    add("push", push).add_argument("registry", nargs="?")
    add("up", up)
    add("down", down)
    add("status", status)
    add("kubeconfig", kubeconfig)
    routes = add("route", route)
    routes.add_argument("which", choices=("all", "without"))
    routes.add_argument("edges", nargs="*")
    cables = add("cable", cable)
    cables.add_argument("node")
    cables.add_argument("state", choices=("up", "down"))
    args = parser.parse_args()
    try:
        args.action(args)
    except BrokenPipeError:  # the reader of our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except LabError as e:
        print(f"lab.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
