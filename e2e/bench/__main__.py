"""Benchmarks in the lab: idle, gate, rollout. Each writes target/reports/NAME.json."""

import argparse
import sys

import gate
import idle
import rollout


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("name", choices=["idle", "gate", "rollout"])
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument("--rollouts", type=int, default=5, help="how many rollouts in a row (rollout)")
    parser.add_argument("--variants", default="", help="only these, separated by commas (rollout)")
    args = parser.parse_args()
    if args.name == "rollout":
        return rollout.main(args.keep, args.rollouts, [v for v in args.variants.split(",") if v])
    return {"idle": idle, "gate": gate}[args.name].main(args.keep)


if __name__ == "__main__":
    sys.exit(main())
