"""The kill test for as long as you like: ``python -m tests.kill --seconds 300``."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from tests.kill.crashes import BACKENDS, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long processes are killed")
    parser.add_argument("--seed", type=int, default=0, help="draws which process is killed when")
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="firestore", help="what the processes run on")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kill-"))
    report = asyncio.run(run(given.backend, folder, given.seconds, given.seed, lambda text: print(text, flush=True)))
    print(report)
    print("\n".join(report.violations))
    if report.violations:
        print(f"the processes' output and the side effects are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
