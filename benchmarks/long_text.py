"""How much memory and time a long text takes: `read` of 4,000 tokens through SmolLM2, predictions included.

Each way runs in a process of its own, whose peak is measured from outside the model's loading::

    python benchmarks/long_text.py                 # in memory, and to disk
    python benchmarks/long_text.py --tokens 8000

Needs the model (``qkv models get smollm2``). Fails where a peak exceeds 4 GiB, or where writing to disk takes more
memory than holding everything.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 4.0
"""GiB"""
_TEXT = Path(__file__).parent.parent / "DESIGN.md"


def peak() -> float:
    """GiB that this process has had in memory at once; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def measure(tokens: int, to: str | None) -> dict[str, float]:
    """Read so many tokens in this process."""
    from qkv.pretrained import load
    from qkv.recording import read

    pretrained = load("smollm2")
    tokenizer = pretrained.text_tokenizer()
    paragraphs = _TEXT.read_text(encoding="utf-8")
    ids = tokenizer(paragraphs)["input_ids"]
    text = str(tokenizer.decode((ids * (tokens // len(ids) + 1))[:tokens]))
    loaded, started = peak(), time.perf_counter()
    trace = read(pretrained, text, to=to)
    assert trace.predictions is not None
    assert len(trace.predictions) == len(trace.tokens)
    return {
        "tokens": len(trace.tokens),
        "seconds": round(time.perf_counter() - started, 1),
        "loaded": round(loaded, 2),
        "peak": round(peak(), 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--to", help="measure in this process, writing to this folder ('-': to memory)")
    options = parser.parse_args()
    if options.to:
        print(json.dumps(measure(options.tokens, None if options.to == "-" else options.to)))
        return 0
    peaks = []
    print(f"{'':12}{'tokens':>8}{'seconds':>10}{'model GiB':>12}{'peak GiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, to in (("in memory", "-"), ("to disk", str(Path(folder) / "long.qkv"))):
            command = [sys.executable, __file__, "--tokens", str(options.tokens), "--to", to]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            peaks.append(found["peak"])
            print(
                f"{name:12}{found['tokens']:8}{found['seconds']:10}{found['loaded']:12}{found['peak']:10}", flush=True
            )
    return int(max(peaks) > LIMIT or peaks[1] > peaks[0])


if __name__ == "__main__":
    sys.exit(main())
