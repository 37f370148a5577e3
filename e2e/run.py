#!/usr/bin/env python3
"""Runs the end-to-end tests: lab up, chart installed, tests, lab down.

With CLUSTER=current the tests run in the kubeconfig's current context: with the chart and images pushed to REGISTRY (and
the values file VALUES), or with what is installed there already. Tests that disturb nodes run in the lab only.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import setup

ROOT = Path(__file__).resolve().parents[1]
# Two cores carry a whole cluster here: more tests at a time make each of them slower, not the sum faster.
THREADS = "3"
SUITES = [("e2e", THREADS, 1500), ("disruptive", "1", 1200)]


def suite(name: str, threads: str, limit: int, chosen: list[str]) -> bool:
    """Runs one test binary, within a limit in seconds; whether it passed."""
    setup.say(f"tests: {name}")
    command = ["cargo", "test", "--locked", "--workspace", "--test", name, "--", "--test-threads", threads, *chosen]
    env = os.environ | {"DIRECTLB_E2E": "1", "ECHO_IMAGE": setup.echo_image()}
    child = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return child.wait(timeout=limit) == 0
    except subprocess.TimeoutExpired:
        setup.say(f"tests: {name} took longer than {limit} s")
        return False
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument("--suite", choices=[s[0] for s in SUITES], help="only this one")
    parser.add_argument("tests", nargs="*", help="only tests whose names contain one of these")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    passed = True
    try:
        if setup.in_lab():
            setup.build_controller()
            setup.lab("up")
            setup.install()
        else:
            setup.use_current_context()
        for name, threads, limit in SUITES:
            if args.suite in (None, name) and (setup.in_lab() or name != "disruptive"):
                passed = suite(name, threads, limit, args.tests) and passed
    finally:
        if setup.in_lab() and not args.keep:
            setup.lab("down")
    setup.say(f"end-to-end tests {'passed' if passed else 'FAILED'} in {time.monotonic() - begun:.0f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
