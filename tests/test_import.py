"""What `import qkv` loads, and how long it takes: told by fresh interpreters."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    environment = {name: value for name, value in os.environ.items() if name != "QKV_CHECK_SHAPES"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment).stdout


LOADED = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def packages(code: str) -> set[str]:
    """The top-level packages that a piece of code brings in, beyond what Python brings."""
    return set(json.loads(fresh(f"{code}\n{LOADED}"))) - set(json.loads(fresh(LOADED))) - set(sys.stdlib_module_names)


def test_import_loads_numpy_and_the_kernel_alone() -> None:
    assert packages("import qkv") == packages("import numpy") | {"qkv"}


def test_attention_of_arrays_needs_nothing_more() -> None:
    code = (
        "import numpy, qkv; x = numpy.ones((3, 4)); qkv.observe(x, x, x, mask=qkv.Causal(), entropy=True);"
        "qkv.weights(x, x); qkv.steps(x, x, x); qkv.merge(qkv.Partial.of(x, x, x));"
        "qkv.similarity.dot([1, 2], [3, 4]); dir(qkv)"
    )
    assert packages(code) == packages("import numpy") | {"qkv"}


def test_import_is_quick() -> None:
    """Well under 200 ms of a processor beyond Python and NumPy, whatever else runs; the best of a few."""
    code = "import time, numpy; start = time.process_time(); import qkv; print(time.process_time() - start)"
    assert min(float(fresh(code)) for _ in range(5)) < 0.2


def test_names_that_come_later_are_listed() -> None:
    names = fresh("import qkv; print(dir(qkv))")
    for name in ("attend", "observe", "weights", "steps", "capture", "register", "open_trace", "similarity", "trace"):
        assert f"'{name}'" in names


def test_a_wrong_name_is_an_attribute_error() -> None:
    code = "import qkv\ntry:\n    qkv.attention_weights\nexcept AttributeError as error:\n    print(error)"
    assert fresh(code).strip() == "module 'qkv' has no attribute 'attention_weights'"
