"""How long a clean build of the compiled module takes, and how large it is: `make size`. Both have limits.

.venv/bin/python benchmarks/build.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_MEGABYTES = 10
MOST_SECONDS = 300  # on two cores
ROOT = Path(__file__).parents[1]


def main() -> int:
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    cores = min(2, len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        build, prefix = Path(folder, "build"), Path(folder, "prefix")

        def cmake(*arguments: str | Path) -> None:
            subprocess.run(["cmake", *arguments], env=tools, check=True, stdout=subprocess.DEVNULL)

        began = time.monotonic()
        cmake("-S", ROOT, "-B", build, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}")
        cmake("--build", build, "--parallel", str(cores))
        seconds = time.monotonic() - began
        cmake("--install", build, "--prefix", prefix, "--strip")
        (module,) = prefix.rglob("_native*.so")
        megabytes = module.stat().st_size / 1e6
    print(f"clean build: {seconds:.0f} s on {cores} cores (at most {MOST_SECONDS})")
    print(f"compiled module: {megabytes:.2f} MB (at most {MOST_MEGABYTES})")
    return int(seconds > MOST_SECONDS or megabytes > MOST_MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
