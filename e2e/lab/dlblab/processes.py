"""Starts the lab's daemons so that none can escape the record."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import cgroups
from .record import Record
from .shell import LabError

# The child waits for a line before it becomes the daemon. It gets that line only
# after its id is on record; if we die before, it reads the end of file and goes.
# `exec` keeps the id and the start time, so the record stays right.
_GATE = """
read -r go || exit 1
for procs in $DIRECTLB_LAB_CGROUPS; do echo $$ > "$procs" || exit 1; done
unset DIRECTLB_LAB_CGROUPS
exec "$@" < /dev/null
"""


def start(record: Record, name: str, argv: Sequence[object], log: Path,
          env: dict[str, str] | None = None) -> int:
    """Starts a daemon in a session of its own, with its output in a file."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8", **(env or {}),
                   "DIRECTLB_LAB_CGROUPS": " ".join(cgroups.daemon_files())}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        child = subprocess.Popen(["/bin/sh", "-c", _GATE, name, *map(str, argv)],
                                 stdin=subprocess.PIPE, stdout=output, stderr=output,
                                 start_new_session=True, env=environment, cwd="/")
    record.add_process(name, child.pid)
    try:
        child.stdin.write(b"go\n")
        child.stdin.close()
    except BrokenPipeError as e:
        raise LabError(f"{name} did not start; see {log}") from e
    # Nobody waits for daemons: they outlive this program.
    child.returncode = 0
    return child.pid
