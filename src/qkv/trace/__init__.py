"""What was captured: in memory and on disk.

A `Trace` holds `Sequence` s (texts) of `Attention` records (layers); `open_trace` reads one back from disk.
"""

from __future__ import annotations

from ._attention import Attention as Attention
from ._store import Writer as Writer
from ._store import open_trace as open_trace
from ._structure import BiasStructure as BiasStructure
from ._structure import MaskStructure as MaskStructure
from ._text import Candidate as Candidate
from ._text import ModelInfo as ModelInfo
from ._text import SideName as SideName
from ._text import Token as Token
from ._trace import Sequence as Sequence
from ._trace import Trace as Trace
