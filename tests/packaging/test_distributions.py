"""The sdist and the wheel built from it: what is in them, and that the wheel works in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("QKV_", "PYTHON"))}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`python -m build`: the sdist from this checkout, then the wheel from that sdist."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        env=CLEAN,
        stdout=subprocess.DEVNULL,
    )
    return out


def test_sdist_holds_sources_and_the_built_page(distributions: Path) -> None:
    (sdist,) = distributions.glob("qkv-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    expected = {
        "CMakeLists.txt",
        "LICENSE",
        "README.md",
        "build_backend/qkv_build.py",
        "src/qkv/py.typed",
        "src/qkv/explorer/page/index.html",
    }
    assert expected <= names
    assert any(name.startswith("cpp/") and name.endswith(".cpp") for name in names)
    assert not any("node_modules" in name or name.endswith(".so") for name in names)


def test_wheel_holds_kernel_stub_marker_and_page(distributions: Path) -> None:
    (wheel,) = distributions.glob("qkv-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    assert {"qkv/py.typed", "qkv/attention/_native.pyi", "qkv/explorer/page/index.html"} <= sizes.keys()
    assert any(name.startswith("qkv/explorer/page/assets/") and name.endswith(".js") for name in sizes)
    (kernel,) = [name for name in sizes if name.startswith("qkv/attention/_native") and name.endswith(".so")]
    assert sizes[kernel] < 10 * 2**20
    outside = {name for name in sizes if not name.startswith(("qkv/", "qkv-"))}
    assert not outside


def test_wheel_works_in_an_empty_environment(distributions: Path, tmp_path: Path) -> None:
    """With NumPy alone: the array API answers, and the command line says what it lacks."""
    (wheel,) = distributions.glob("qkv-*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    bin_directory = tmp_path / "empty" / "bin"
    install = [str(bin_directory / "python"), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*install, str(wheel)], check=True, env=CLEAN)
    program = (
        "import numpy, qkv; x = numpy.eye(4, dtype='float32');"
        "seen = qkv.observe(x, x, x, mask=qkv.Causal(), entropy=True);"
        "assert seen.output.shape == (4, 4) and seen.output[0, 0] == 1 and seen.entropy[0] == 0;"
        "print(qkv.__version__)"
    )
    ran = subprocess.run(
        [str(bin_directory / "python"), "-c", program],
        check=True,
        env=CLEAN,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == wheel.name.split("-")[1]
    refused = subprocess.run(
        [str(bin_directory / "qkv"), "info"], env=CLEAN, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "pip install 'qkv[look]'" in refused.stderr
    assert "Traceback" not in refused.stderr
