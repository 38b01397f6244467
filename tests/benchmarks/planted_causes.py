"""The suite of planted causes by hand: a table of every case, and with more seeds how often each is right.

python tests/benchmarks/planted_causes.py [--seeds N] [CASE ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planted import suite


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each case, with different noise")
    parser.add_argument("--details", action="store_true", help="every finding, in words")
    parser.add_argument("cases", nargs="*", help="part of a case's name; all of them by default")
    arguments = parser.parse_args()
    cases, broken_cases = suite.discovered()
    causes, broken_causes = suite.loaded_causes()
    chosen = {n: make for n, make in cases.items() if not arguments.cases or any(c in n for c in arguments.cases)}
    outcomes = []
    for name, make in chosen.items():
        for seed in range(arguments.seeds):
            label = name if arguments.seeds == 1 else f"{name} #{seed}"
            outcomes.append(suite.run_case(label, make, causes, seed))
            for variant, found in outcomes[-1].findings if arguments.details else ():
                claim = found.hypothesis.claim
                print(f"{label}: {variant}: {found.hypothesis.cause} {found.status}: {claim} ({found.because})")
            if outcomes[-1].error:
                print(f"{label}: {outcomes[-1].error}", file=sys.stderr)
    print(suite.table(outcomes))
    for module, reason in (broken_cases | broken_causes).items():
        print(f"broken: {module}: {reason}")
    wrong = [o for o in outcomes if o.error or o.false or o.missed]
    return 1 if wrong or broken_cases or broken_causes else 0


if __name__ == "__main__":
    raise SystemExit(main())
