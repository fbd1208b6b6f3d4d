// Generated from src/qkv/views/contract.py by `python -m qkv.views.typescript > web/src/contract.ts`. Do not edit.
/**
 * What a front can ask for, and what it gets: the one contract between Python and the page.
 *
 * ``web/src/contract.ts`` is generated from these classes by ``python -m qkv.views.typescript``. All numbers are plain
 * floats; a value that does not exist (the logsumexp of a query that reads nothing, say) is None, never NaN or infinity.
 *
 * The server answers below the page's own address (the token is part of it), ``GET api/...``::
 *
 *     overview                                                    Overview
 *     thumbnails?stack=&layer=                                    Thumbnails, binary; without layer every layer
 *     head?stack=&layer=&head=                                    Head
 *     row?stack=&layer=&head=&query=                              Row
 *     pair?stack=&layer=&head=&query=&key=                        Pair
 *     window?stack=&layer=&head=&rows=a:b&columns=c:d&side=512    Window, binary; at most side cells on each axis
 *     derivation?stack=&layer=                                    Derivation
 *     predictions?position=                                       Predictions
 *     alignment?rows=a:b                                          Alignment
 *
 * ``layer`` and ``head`` are the model's own indices, as in ``Stack.layers`` and ``Stack.heads``. JSON answers are the
 * classes below. A binary answer carries its class as JSON in the header ``x-qkv-header``, and little-endian float32 in
 * its body. What goes wrong comes as ``Problem`` with status 400 or 404. A self-contained page carries ``Embedded`` in
 * ``<script type="application/json" id="qkv-data">``.
 */

export type StackName = "encoder" | "decoder" | "cross";

export type SideName = "input" | "target";

/** One position of a text, as people read it. */
export interface Token {
  /** Readable: bytes merged into characters, no word-piece marks. */
  text: string;
  /** A space stands before it in running text. */
  space: boolean;
  /** Added by the tokenizer ([CLS], <s>), not part of the text. */
  special: boolean;
  /** Written by the model, not given to it. */
  generated: boolean;
  /** Index of the word that it is a piece of; -1 for a special token. */
  word: number;
}

/** A text that was read or written: ``input`` for most models, ``target`` too where a decoder reads an encoder. */
export interface Side {
  name: SideName;
  tokens: Token[];
}

/** What one head does over the whole text, averaged over the queries that read anything. */
export interface HeadFigures {
  /** Mean entropy of the rows in bits. */
  entropy: number;
  /** Mean weight on the first token. */
  first: number;
  /** Mean weight on the token before the query, over queries that have one (self-attention only; else 0). */
  previous: number;
  /** Mean weight on the token after the query, over queries that have one (self-attention only; else 0). */
  next: number;
  /** Mean distance of what is read, in tokens (self-attention only; else 0). */
  distance: number;
  /**
   * Mean weight on the token after the previous occurrence of the query's token, on a probe of repeated
   * random tokens; None where it was not probed.
   */
  induction: number | null;
}

/** Layers of one kind. */
export interface Stack {
  name: StackName;
  query_side: SideName;
  key_side: SideName;
  layers: number[];
  /** The captured heads, by their index in the model. */
  heads: number[];
  key_heads: number;
  head_dim: number;
  value_dim: number;
  causal: boolean;
  /** [layer position][head position] */
  figures: HeadFigures[][];
}

/** One head, and one pair in it. */
export interface Selection {
  stack: StackName;
  layer: number;
  head: number;
  query: number;
  key: number;
}

/** A token that the model may write next. */
export interface Candidate {
  text: string;
  /** A space stands before it in running text. */
  space: boolean;
  probability: number;
}

/** What the page needs to open. */
export interface Overview {
  model: string;
  /** The model's name as people write it, "MiniLM-L6". */
  title: string;
  sides: Side[];
  stacks: Stack[];
  /** The most telling head and pair: strong, long-range, not a sink. */
  opening: Selection;
  /** Next-token predictions were kept. */
  predicts: boolean;
  version: string;
}

/** The marginals of one head's map. */
export interface Head {
  stack: StackName;
  layer: number;
  head: number;
  scale: number;
  softcap: number | null;
  /** Some pairs are masked. */
  masked: boolean;
  /** (N,) bits */
  entropy: number[];
  /** (M,) sum of weights over queries */
  received: number[];
  figures: HeadFigures;
}

/** A key that a query reads, and what it takes from it. */
export interface Link {
  key: number;
  weight: number;
  /** Length of the value vector: weight x length is what arrives in the output. */
  value_norm: number;
}

/** What one query reads. */
export interface Row {
  query: number;
  /** (M,) */
  weights: number[];
  /** bits */
  entropy: number;
  /** The strongest keys, by weight. */
  links: Link[];
}

/** Why one query reads one key: every number from vectors to weight. */
export interface Pair {
  query: number;
  key: number;
  /** (head_dim,) */
  query_vector: number[];
  /** (head_dim,) */
  key_vector: number[];
  /** (head_dim,) */
  product: number[];
  dot: number;
  scale: number;
  scaled: number;
  softcap: number | null;
  capped: number;
  bias: number;
  score: number;
  masked: boolean;
  /** Logarithm of the sum of exp(score) over every key (and the sink): weight = exp(score - lse). */
  lse: number | null;
  weight: number;
  /** What the query's output is made of, by weight. */
  links: Link[];
  output_norm: number;
}

/** A rectangle of one head's map; the values follow as float32, row by row. */
export interface Window {
  row_start: number;
  row_stop: number;
  column_start: number;
  column_stop: number;
  /** Tokens a cell stands for on each axis; the cell holds the mean over its rows of the weight on its columns. */
  block: number;
  height: number;
  width: number;
}

/**
 * Every head of a stack, or of the one layer that was asked for with ``layer=``, as a small map.
 *
 * The values follow as float32, (layers, heads, height, width), each cell as in ``Window``. On a long text ask layer
 * by layer: an answer comes as soon as its layer is computed.
 */
export interface Thumbnails {
  stack: StackName;
  layers: number;
  heads: number;
  height: number;
  width: number;
}

/** One station of the derivation: its formula is the page's, its shape is the model's. */
export interface Step {
  name: "input" | "qkv" | "scores" | "scale" | "softcap" | "bias" | "mask" | "softmax" | "value" | "concat" | "output" | "norm" | "ffn";
  /**
   * As in 15 × 32, 15 × 15, 384 → 1536 → 384; d = 32 or × 0.0625 for ``scale``, 50 for ``softcap``; "" where a step
   * has none.
   */
  shape: string;
}

/**
 * The way from x to the layer's output, with shapes, in the order in which the model goes it.
 *
 * A model that normalises before attention has ``norm`` twice: before ``qkv``, and before ``ffn``. ``softcap`` and
 * ``bias`` are there where the model has them; ``mask`` always, with no shape where nothing is masked.
 */
export interface Derivation {
  stack: StackName;
  layer: number;
  steps: Step[];
}

/** The likeliest next tokens after one position. */
export interface Predictions {
  position: number;
  candidates: Candidate[];
}

/** A written word, and the word of the input that is read most while it is written. */
export interface AlignedWord {
  /** The written word's first token. */
  start: number;
  /** One past its last token. */
  stop: number;
  /** The first token of the word that is read. */
  read_start: number;
  /** One past its last token. */
  read_stop: number;
  /** On the word that is read: mean over all layers and heads, whatever is shown of them. */
  weight: number;
}

/**
 * Where the written words that begin within some rows come from, by cross-attention.
 *
 * Words have a letter or a digit; an input without any (a sound, a picture) aligns none. Of a long text ask for the
 * rows that are seen.
 */
export interface Alignment {
  row_start: number;
  row_stop: number;
  words: AlignedWord[];
}

/** One layer of a stack inside a self-contained page. Arrays are base64 of little-endian float32. */
export interface EmbeddedLayer {
  layer: number;
  scale: number;
  softcap: number | null;
  masked: boolean;
  /** (heads, N, head_dim) */
  query: string;
  /** (heads, M, head_dim): for every captured head the key head that it reads, so repeated where heads share one */
  key: string;
  /** (heads, N, M) */
  weights: string;
  /** (heads, N); -infinity where a query reads nothing */
  lse: string;
  /** (heads, N) bits */
  entropy: string;
  /** (heads, M) */
  received: string;
  /** (heads, M) */
  value_norm: string;
  /** (heads, N) */
  output_norm: string;
}

export interface EmbeddedThumbnails {
  header: Thumbnails;
  values: string;
}

/** All that a self-contained page needs: the same answers, without a server. */
export interface Embedded {
  overview: Overview;
  thumbnails: EmbeddedThumbnails[];
  derivations: Derivation[];
  predictions: Predictions[];
  /** Of the whole target; None without cross-attention. */
  alignment: Alignment | null;
  /** By stack name, in the order of the stack's ``layers``. */
  layers: Record<string, EmbeddedLayer[]>;
}

/** What the server answers, with status 400 or 404, to a request that it cannot serve. */
export interface Problem {
  /** One sentence for people: what came, what was expected. */
  error: string;
}
