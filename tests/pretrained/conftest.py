"""Every test of this room may use the tiny store."""

from __future__ import annotations

from tiny_store import bert_folder as bert_folder
from tiny_store import cache as cache
from tiny_store import shipped as shipped
