"""The command line: one file a command, gathered in ``_app``."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run ``qkv``; print an error of ours as one clear line instead of a traceback."""
    from qkv.errors import QkvError

    try:
        from ._app import app
    except ModuleNotFoundError as error:
        sys.exit(f"qkv: the command line needs {error.name}: pip install 'qkv[look]'")
    try:
        app()
    except QkvError as error:
        sys.exit(f"qkv: {error}")
    finally:
        # An impatient second Ctrl-C, while threads and libraries close, ends the process without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
