"""A process that measures rows with a fixed number of threads; ``python -m qkv.bench.worker THREADS SECONDS``.

Rows come as lines of JSON on standard input. Lines go back: ``run NAME`` before a contender runs (so that whoever
watches knows which library took the process down), ``result JSON``, ``failed TEXT`` where results disagree.
"""

from __future__ import annotations

import json
import os
import sys

from .machine import processors


def main() -> None:
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    # Libraries print what they like; the answers have a channel of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors()[-threads:])  # JAX takes as many threads as it may use processors
    import torch

    torch.set_num_threads(threads)
    from .agreement import Disagreement
    from .clock import measure
    from .results import case_from

    for line in sys.stdin:
        task = json.loads(line)
        try:
            result = measure(
                case_from(task["case"]),
                threads,
                seconds,
                skip=task["skip"],
                clock=lambda name: print("run", name, file=answers),
            )
        except Disagreement as error:
            print("failed", error, file=answers)
            continue
        print("result", result.to_json(), file=answers)


if __name__ == "__main__":
    main()
