"""Container images as Docker archives, made from files without any image builder.

Archives are the same, bit for bit, whenever their files are the same: entries
are sorted and have no times. So an unchanged image keeps its digest, and a
cluster that has it is left alone.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import settings
from .shell import LabError, note, run, say


@dataclass(frozen=True)
class Image:
    """An archive on disk. `id` is the digest of its configuration, as Docker has it."""

    reference: str
    archive: Path
    id: str


@dataclass(frozen=True)
class _Recipe:
    reference: str
    program: Path  # becomes the entry point, with the libraries that it loads
    entrypoint: str
    user: str = "65532"
    strip: bool = False


def controller_binary() -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR") or settings.REPO / "target")
    return Path(os.environ.get("DIRECTLB_BIN") or target / "debug" / "directlb")


def build(folders: dict[str, Path]) -> list[Image]:
    """Makes all images whose programs there are; `folders` are those of the tools."""
    recipes = [
        _Recipe("directlb.local/pause:1", folders["pause"] / "pause", "/pause"),
        _Recipe("directlb.local/echo:dev", folders["echo"] / "echo", "/echo"),
        _Recipe(f"directlb.local/envoy:{settings.ENVOY}", folders["envoy"] / "envoy",
                "/usr/local/bin/envoy", user="101", strip=True),
    ]
    controller = controller_binary()
    if controller.is_file():
        recipes.append(_Recipe("directlb.local/controller:dev", controller, "/directlb",
                               strip=True))
    else:
        note(f"no controller binary at {controller}: going on without "
             "directlb.local/controller:dev (set DIRECTLB_BIN or build it)")
    settings.IMAGES.mkdir(parents=True, exist_ok=True)
    return [_make(r) for r in recipes]


def _make(recipe: _Recipe) -> Image:
    """Makes one image unless the archive on disk is of the same program."""
    archive = settings.IMAGES / (re.sub(r"[/:]", "_", recipe.reference) + ".tar")
    stamp = archive.with_suffix(".json")
    # A debug binary is large, so it is recognised by its place, size and time.
    stat = recipe.program.stat()
    source = [str(recipe), stat.st_size, stat.st_mtime_ns, _SOURCE]
    try:
        known = json.loads(stamp.read_text())
        if known["source"] == source and archive.is_file():
            return Image(recipe.reference, archive, known["id"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        pass
    say(f"making image {recipe.reference}")
    with tempfile.TemporaryDirectory(dir=settings.IMAGES) as folder:
        program = recipe.program
        if recipe.strip and shutil.which("strip"):
            program = Path(folder, "program")
            run(["strip", "-o", program, recipe.program])
        # Libraries change rarely and so have a layer of their own, which is shared.
        libraries = _layer(folder, "libraries", _libraries(recipe.program))
        app = _layer(folder, "app", {recipe.entrypoint.lstrip("/"): program})
        half = Path(folder, "image.tar")
        identity = _archive(half, recipe, [libraries, app])
        half.rename(archive)
    stamp.write_text(json.dumps({"source": source, "id": identity}))
    return Image(recipe.reference, archive, identity)


def _libraries(program: Path) -> dict[str, Path]:
    """The shared libraries of a program, where its loader looks for them."""
    text = run(["ldd", program], check=False)
    if re.search(r"not found", text):
        raise LabError(f"{program} lacks libraries:\n{text}")
    paths = re.findall(r"(/\S+) \(0x", text)  # "libc.so.6 => /lib/... (0x...)"
    return {p.lstrip("/"): Path(p).resolve() for p in paths}


def _entry(name: str, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type = mode, kind
    return info


def _layer(folder: str, name: str, files: dict[str, Path]) -> tuple[str, Path]:
    """Writes a layer and returns (digest, path)."""
    path = Path(folder, f"{name}.tar")
    parents = {str(p) for f in files for p in Path(f).parents if str(p) != "."}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for parent in sorted(parents):
            tar.addfile(_entry(parent, 0o755, tarfile.DIRTYPE))
        if name == "app":
            tar.addfile(_entry("tmp", 0o1777, tarfile.DIRTYPE))
        for target, source in sorted(files.items()):
            info = _entry(target, 0o755)
            info.size = source.stat().st_size
            with open(source, "rb") as content:
                tar.addfile(info, content)
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest(), path


def _archive(target: Path, recipe: _Recipe, layers: list[tuple[str, Path]]) -> str:
    config = json.dumps({
        "architecture": settings.ARCH, "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": [recipe.entrypoint], "User": recipe.user, "WorkingDir": "/",
                   "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{d}" for d, _ in layers]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "directlb lab"}
                    for _ in layers],
    }, sort_keys=True).encode()
    identity = hashlib.sha256(config).hexdigest()
    manifest = json.dumps([{"Config": f"{identity}.json", "RepoTags": [recipe.reference],
                            "Layers": [f"{d}.tar" for d, _ in layers]}]).encode()
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        for digest, path in layers:
            info = _entry(f"{digest}.tar", 0o644)
            info.size = path.stat().st_size
            with open(path, "rb") as content:
                tar.addfile(info, content)
        for name, data in ((f"{identity}.json", config), ("manifest.json", manifest)):
            info = _entry(name, 0o644)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return f"sha256:{identity}"


def push(folders: dict[str, Path], registry: str, crane: Path) -> list[str]:
    """Pushes the images to a registry, for a cluster that is not the lab."""
    pushed = []
    for image in build(folders):
        target = image.reference.replace("directlb.local", registry.rstrip("/"), 1)
        say(f"pushing {target}")
        run([crane, "push", image.archive, target], timeout=1800)
        pushed.append(target)
    return pushed


# Images made by another version of this file are made again.
_SOURCE = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
