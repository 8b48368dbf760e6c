"""Fuzz the parsers of untrusted input: `python tests/fuzz [PARSER ...] --count 10000 --seed 0`.

Mutated files must give a result or one sentence: no other exception, no hang, bounded memory, no wrong count. Inputs
that fail are saved, each with its traceback; `python tests/fuzz PARSER --input FILE` runs one again.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests`, whose small models are seeds
from fuzz.harness import fuzz, replay
from fuzz.parsers import PARSERS

ROW = "{:20} {:>7,} {:>12.0%} {:>8,} {:>8,} {:>8.1f} {:>8.2f} {:>5.0f}"
COLUMNS = ("parser", "inputs", "past header", "results", "refused", "seconds", "slowest", "MiB")


def main() -> int:
    """Run the command; the exit status is 1 if an input failed."""
    parser = argparse.ArgumentParser(
        "python tests/fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=f"of {', '.join(PARSERS)} [default: all]")
    parser.add_argument("--count", type=int, default=10_000, help="inputs for each parser [default: 10000]")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations [default: 0]")
    parser.add_argument("--start", type=int, default=0, help="number of the first input [default: 0]")
    parser.add_argument(
        "--saved", type=Path, default=Path("build/fuzz"), help="folder of inputs that fail [default: build/fuzz]"
    )
    parser.add_argument("--input", type=Path, help="run this file through one parser")
    arguments = parser.parse_args()
    names = arguments.parsers or list(PARSERS)
    if unknown := set(names) - set(PARSERS):
        parser.error(f"{min(unknown)}: no such parser; known are {', '.join(PARSERS)}")
    if arguments.input:
        for name in names:
            print(f"{name}: {replay(PARSERS[name], arguments.input)}")
        return 0
    failed = []
    print(re.sub(r"[,.][^}]*", "", ROW).format(*COLUMNS))
    for name in names:
        tally = fuzz(PARSERS[name], arguments.count, arguments.seed, arguments.saved, arguments.start)
        share, memory = tally.past_header / max(tally.inputs, 1), tally.memory / 2**20
        counts = tally.results, tally.refused, tally.seconds, tally.slowest
        print(ROW.format(name, tally.inputs, share, *counts, memory), flush=True)
        failed += [(name, path) for path in tally.faults]
    for name, path in failed:
        print(f"failed: {path.with_name(path.name + '.txt').read_text().splitlines()[-1]}")
        print(f"  python tests/fuzz {name} --input {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
