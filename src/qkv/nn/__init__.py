"""Attention for PyTorch: the layers of "Attention Is All You Need", and those that came after it.

Read them in this order: `MultiHeadAttention`, `FeedForward`, `Residual`, `EncoderLayer`, `DecoderLayer`, `Transformer`.
`LayerNorm` is PyTorch's, and `ALiBi` is `qkv.ALiBi`, a bias: neither needs anything of its own here.
"""

from torch.nn import LayerNorm as LayerNorm

from ..attention import ALiBi as ALiBi
from . import functional as functional
from ._additive_attention import AdditiveAttention as AdditiveAttention
from ._cache import KeyValueCache as KeyValueCache
from ._decoder import Decoder as Decoder
from ._decoder import DecoderLayer as DecoderLayer
from ._decoder import LayerCache as LayerCache
from ._encoder import Encoder as Encoder
from ._encoder import EncoderLayer as EncoderLayer
from ._feed_forward import FeedForward as FeedForward
from ._multi_head_attention import KeysValues as KeysValues
from ._multi_head_attention import MultiHeadAttention as MultiHeadAttention
from ._norms import Residual as Residual
from ._norms import RMSNorm as RMSNorm
from ._positions import LearnedPositions as LearnedPositions
from ._positions import SinusoidalPositions as SinusoidalPositions
from ._positions import sinusoids as sinusoids
from ._relative_positions import T5Positions as T5Positions
from ._rotary import Rotary as Rotary
from ._transformer import Transformer as Transformer
