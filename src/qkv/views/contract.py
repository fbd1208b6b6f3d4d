"""What a front can ask for, and what it gets: the one contract between Python and the page.

``web/src/contract.ts`` is generated from these classes by ``python -m qkv.views.typescript``. All numbers are plain
floats; a value that does not exist (the logsumexp of a query that reads nothing, say) is None, never NaN or infinity.

The server answers below the page's own address (the token is part of it), ``GET api/...``::

    overview                                                    Overview
    thumbnails?stack=&layer=                                    Thumbnails, binary; without layer every layer
    head?stack=&layer=&head=                                    Head
    row?stack=&layer=&head=&query=                              Row
    pair?stack=&layer=&head=&query=&key=                        Pair
    window?stack=&layer=&head=&rows=a:b&columns=c:d&side=512    Window, binary; at most side cells on each axis
    derivation?stack=&layer=                                    Derivation
    predictions?position=                                       Predictions
    alignment?rows=a:b                                          Alignment

``layer`` and ``head`` are the model's own indices, as in ``Stack.layers`` and ``Stack.heads``. JSON answers are the
classes below. A binary answer carries its class as JSON in the header ``x-qkv-header``, and little-endian float32 in
its body. What goes wrong comes as ``Problem`` with status 400 or 404. A self-contained page carries ``Embedded`` in
``<script type="application/json" id="qkv-data">``.
"""

from __future__ import annotations

from typing import Literal, TypedDict

StackName = Literal["encoder", "decoder", "cross"]
SideName = Literal["input", "target"]


class Token(TypedDict):
    """One position of a text, as people read it."""

    text: str
    """Readable: bytes merged into characters, no word-piece marks."""
    space: bool
    """A space stands before it in running text."""
    special: bool
    """Added by the tokenizer ([CLS], <s>), not part of the text."""
    generated: bool
    """Written by the model, not given to it."""
    word: int
    """Index of the word that it is a piece of; -1 for a special token."""


class Side(TypedDict):
    """A text that was read or written: ``input`` for most models, ``target`` too where a decoder reads an encoder."""

    name: SideName
    tokens: list[Token]


class HeadFigures(TypedDict):
    """What one head does over the whole text, averaged over the queries that read anything."""

    entropy: float
    """Mean entropy of the rows in bits."""
    first: float
    """Mean weight on the first token."""
    previous: float
    """Mean weight on the token before the query, over queries that have one (self-attention only; else 0)."""
    next: float
    """Mean weight on the token after the query, over queries that have one (self-attention only; else 0)."""
    distance: float
    """Mean distance of what is read, in tokens (self-attention only; else 0)."""
    induction: float | None
    """Mean weight on the token after the previous occurrence of the query's token, on a probe of repeated
    random tokens; None where it was not probed."""


class Stack(TypedDict):
    """Layers of one kind."""

    name: StackName
    query_side: SideName
    key_side: SideName
    layers: list[int]
    heads: list[int]
    """The captured heads, by their index in the model."""
    key_heads: int
    head_dim: int
    value_dim: int
    causal: bool
    figures: list[list[HeadFigures]]
    """[layer position][head position]"""


class Selection(TypedDict):
    """One head, and one pair in it."""

    stack: StackName
    layer: int
    head: int
    query: int
    key: int


class Candidate(TypedDict):
    """A token that the model may write next."""

    text: str
    space: bool
    """A space stands before it in running text."""
    probability: float


class Overview(TypedDict):
    """What the page needs to open."""

    model: str
    title: str
    """The model's name as people write it, "MiniLM-L6"."""
    sides: list[Side]
    stacks: list[Stack]
    opening: Selection
    """The most telling head and pair: strong, long-range, not a sink."""
    predicts: bool
    """Next-token predictions were kept."""
    version: str


class Head(TypedDict):
    """The marginals of one head's map."""

    stack: StackName
    layer: int
    head: int
    scale: float
    softcap: float | None
    masked: bool
    """Some pairs are masked."""
    entropy: list[float]
    """(N,) bits"""
    received: list[float]
    """(M,) sum of weights over queries"""
    figures: HeadFigures


class Link(TypedDict):
    """A key that a query reads, and what it takes from it."""

    key: int
    weight: float
    value_norm: float
    """Length of the value vector: weight x length is what arrives in the output."""


class Row(TypedDict):
    """What one query reads."""

    query: int
    weights: list[float]
    """(M,)"""
    entropy: float
    """bits"""
    links: list[Link]
    """The strongest keys, by weight."""


class Pair(TypedDict):
    """Why one query reads one key: every number from vectors to weight."""

    query: int
    key: int
    query_vector: list[float]
    """(head_dim,)"""
    key_vector: list[float]
    """(head_dim,)"""
    product: list[float]
    """(head_dim,)"""
    dot: float
    scale: float
    scaled: float
    softcap: float | None
    capped: float
    bias: float
    score: float
    masked: bool
    lse: float | None
    """Logarithm of the sum of exp(score) over every key (and the sink): weight = exp(score - lse)."""
    weight: float
    links: list[Link]
    """What the query's output is made of, by weight."""
    output_norm: float


class Window(TypedDict):
    """A rectangle of one head's map; the values follow as float32, row by row."""

    row_start: int
    row_stop: int
    column_start: int
    column_stop: int
    block: int
    """Tokens a cell stands for on each axis; the cell holds the mean over its rows of the weight on its columns."""
    height: int
    width: int


class Thumbnails(TypedDict):
    """Every head of a stack, or of the one layer that was asked for with ``layer=``, as a small map.

    The values follow as float32, (layers, heads, height, width), each cell as in ``Window``. On a long text ask layer
    by layer: an answer comes as soon as its layer is computed.
    """

    stack: StackName
    layers: int
    heads: int
    height: int
    width: int


class Step(TypedDict):
    """One station of the derivation: its formula is the page's, its shape is the model's."""

    name: Literal[
        "input",
        "qkv",
        "scores",
        "scale",
        "softcap",
        "bias",
        "mask",
        "softmax",
        "value",
        "concat",
        "output",
        "norm",
        "ffn",
    ]
    shape: str
    """As in 15 × 32, 15 × 15, 384 → 1536 → 384; d = 32 or × 0.0625 for ``scale``, 50 for ``softcap``; "" where a step
    has none."""


class Derivation(TypedDict):
    """The way from x to the layer's output, with shapes, in the order in which the model goes it.

    A model that normalises before attention has ``norm`` twice: before ``qkv``, and before ``ffn``. ``softcap`` and
    ``bias`` are there where the model has them; ``mask`` always, with no shape where nothing is masked.
    """

    stack: StackName
    layer: int
    steps: list[Step]


class Predictions(TypedDict):
    """The likeliest next tokens after one position."""

    position: int
    candidates: list[Candidate]


class AlignedWord(TypedDict):
    """A written word, and the word of the input that is read most while it is written."""

    start: int
    """The written word's first token."""
    stop: int
    """One past its last token."""
    read_start: int
    """The first token of the word that is read."""
    read_stop: int
    """One past its last token."""
    weight: float
    """On the word that is read: mean over all layers and heads, whatever is shown of them."""


class Alignment(TypedDict):
    """Where the written words that begin within some rows come from, by cross-attention.

    Words have a letter or a digit; an input without any (a sound, a picture) aligns none. Of a long text ask for the
    rows that are seen.
    """

    row_start: int
    row_stop: int
    words: list[AlignedWord]


class EmbeddedLayer(TypedDict):
    """One layer of a stack inside a self-contained page. Arrays are base64 of little-endian float32."""

    layer: int
    scale: float
    softcap: float | None
    masked: bool
    query: str
    """(heads, N, head_dim)"""
    key: str
    """(heads, M, head_dim): for every captured head the key head that it reads, so repeated where heads share one"""
    weights: str
    """(heads, N, M)"""
    lse: str
    """(heads, N); -infinity where a query reads nothing"""
    entropy: str
    """(heads, N) bits"""
    received: str
    """(heads, M)"""
    value_norm: str
    """(heads, M)"""
    output_norm: str
    """(heads, N)"""


class EmbeddedThumbnails(TypedDict):
    header: Thumbnails
    values: str


class Embedded(TypedDict):
    """All that a self-contained page needs: the same answers, without a server."""

    overview: Overview
    thumbnails: list[EmbeddedThumbnails]
    derivations: list[Derivation]
    predictions: list[Predictions]
    alignment: Alignment | None
    """Of the whole target; None without cross-attention."""
    layers: dict[str, list[EmbeddedLayer]]
    """By stack name, in the order of the stack's ``layers``."""


class Problem(TypedDict):
    """What the server answers, with status 400 or 404, to a request that it cannot serve."""

    error: str
    """One sentence for people: what came, what was expected."""
