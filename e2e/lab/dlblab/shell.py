"""Progress lines and running other programs, with errors that say what was run."""

import subprocess
import sys
import time
from collections.abc import Sequence

_started = time.monotonic()


class LabError(Exception):
    """Something the user can act on; printed without a traceback."""


def say(message: str) -> None:
    """A step of the work. Flushed, so that a log file shows where a run stands."""
    print(f"==> [{time.monotonic() - _started:5.1f}s] {message}", flush=True)


def note(message: str) -> None:
    print(f"    {message}", flush=True)


def run(argv: Sequence[object], *, stdin: str | None = None, env: dict | None = None,
        cwd: object = None, timeout: float = 600, check: bool = True) -> str:
    """Runs a program to its end and returns its standard output."""
    args = [str(a) for a in argv]
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(args, capture_output=True, text=True, env=env, timeout=timeout,
                              cwd=str(cwd) if cwd else None, **source)
    except FileNotFoundError as e:
        raise LabError(f"{args[0]} is not installed") from e
    except subprocess.TimeoutExpired as e:
        raise LabError(f"no end after {timeout:.0f}s: {' '.join(args)}") from e
    if check and done.returncode != 0:
        detail = (done.stderr or done.stdout).strip()[-3000:]
        raise LabError(f"{' '.join(args)} failed ({done.returncode}):\n{detail}")
    return done.stdout


def retry(what: str, action, attempts: int = 3):
    """Downloads fail now and then; only the last failure counts."""
    for left in range(attempts - 1, -1, -1):
        try:
            return action()
        except LabError as e:
            if not left:
                raise
            print(f"    {what}: {str(e).splitlines()[-1]}; trying again", file=sys.stderr)
            time.sleep(2)


def wait_until(what: str, ready, timeout: float, interval: float = 0.1):
    """Polls until `ready` returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        result = ready()
        if result:
            return result
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout:.0f}s")
        time.sleep(interval)
