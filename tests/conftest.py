"""The test run: shapes checked at every annotated call, no network, two quiet threads."""

from __future__ import annotations

import os

os.environ["QKV_CHECK_SHAPES"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import setuptools  # noqa: F401  # torch.compile imports it, and it refuses to where another's distutils came first
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# A shared machine is slow now and then: no deadline; the count of examples is what bounds the time.
settings.register_profile("qkv", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qkv")

install_import_hook(["qkv.attention", "qkv.similarity"], "beartype.beartype")
