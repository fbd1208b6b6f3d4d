/**
 * Answers out of a self-contained page: the arrays of `Embedded`, and the little arithmetic that the server would do.
 *
 * Weights, queries, keys and logsumexps are there; what follows from them (a dot product, a score, a block of the map) is
 * computed here in double precision.
 */

import type {
  Alignment,
  Derivation,
  Embedded,
  EmbeddedLayer,
  Head,
  Link,
  Overview,
  Pair,
  Predictions,
  Row,
  Stack,
  StackName,
  Thumbnails,
  Window,
} from "../contract";
import { floatsOfBase64 } from "./binary";
import { AnswerError, type HeadName, type Source, type Span, type Values } from "./source";

const LINKS = 12;
/** A score recomputed from float32 differs from the exact one by rounding; a bias is what is more than that. */
const ROUNDING = 2e-4;

interface Layer extends Omit<
  EmbeddedLayer,
  "query" | "key" | "weights" | "lse" | "entropy" | "received" | "value_norm" | "output_norm"
> {
  readonly query: Float32Array;
  readonly key: Float32Array;
  readonly weights: Float32Array;
  readonly lse: Float32Array;
  readonly entropy: Float32Array;
  readonly received: Float32Array;
  readonly value_norm: Float32Array;
  readonly output_norm: Float32Array;
}

/** One head's place in the arrays of its layer. */
interface Place {
  readonly stack: Stack;
  readonly layer: Layer;
  readonly rows: number;
  readonly columns: number;
  readonly head: number;
}

export class EmbeddedSource implements Source {
  private readonly decoded = new Map<EmbeddedLayer, Layer>();

  constructor(private readonly data: Embedded) {}

  async overview(): Promise<Overview> {
    return this.data.overview;
  }

  async thumbnails(stack: StackName): Promise<Values<Thumbnails>> {
    const found = this.data.thumbnails.find((thumbnails) => thumbnails.header.stack === stack);
    if (found === undefined) throw new AnswerError(`this page holds no ${stack} thumbnails`);
    return { header: found.header, values: floatsOfBase64(found.values) };
  }

  async head(name: HeadName): Promise<Head> {
    const { stack, layer, rows, columns, head } = this.place(name);
    const layerAt = stack.layers.indexOf(name.layer);
    return {
      ...name,
      scale: layer.scale,
      softcap: layer.softcap,
      masked: layer.masked,
      entropy: [...layer.entropy.subarray(head * rows, (head + 1) * rows)],
      received: [...layer.received.subarray(head * columns, (head + 1) * columns)],
      figures: stack.figures[layerAt]![head]!,
    };
  }

  async row(name: HeadName, query: number): Promise<Row> {
    const place = this.place(name);
    const weights = this.weights(place, query);
    return {
      query,
      weights: [...weights],
      entropy: place.layer.entropy[place.head * place.rows + query]!,
      links: this.links(place, weights),
    };
  }

  async pair(name: HeadName, query: number, key: number): Promise<Pair> {
    const place = this.place(name);
    const { layer, rows, columns } = place;
    const dim = place.stack.head_dim;
    const at = place.head * rows + query;
    const keyAt = place.head * columns + key; // a key head that several heads share is there once for each
    const queryVector = [...layer.query.subarray(at * dim, (at + 1) * dim)];
    const keyVector = [...layer.key.subarray(keyAt * dim, (keyAt + 1) * dim)];
    const product = queryVector.map((value, index) => value * keyVector[index]!);
    const dot = product.reduce((sum, value) => sum + value, 0);
    const scaled = dot * layer.scale;
    const capped = layer.softcap === null ? scaled : layer.softcap * Math.tanh(scaled / layer.softcap);
    const weights = this.weights(place, query);
    const weight = weights[key]!;
    const lse = layer.lse[at]!;
    const masked = layer.masked && weight === 0;
    // weight = exp(score - lse), so whatever the score has beyond the capped product is the bias.
    const beyond = weight > 0 ? Math.log(weight) + lse - capped : 0;
    const bias = Math.abs(beyond) <= ROUNDING * Math.max(1, Math.abs(capped)) ? 0 : beyond;
    return {
      query,
      key,
      query_vector: queryVector,
      key_vector: keyVector,
      product,
      dot,
      scale: layer.scale,
      scaled,
      softcap: layer.softcap,
      capped,
      bias,
      score: capped + bias,
      masked,
      lse: Number.isFinite(lse) ? lse : null,
      weight,
      links: this.links(place, weights),
      output_norm: layer.output_norm[at]!,
    };
  }

  async window(name: HeadName, rows: Span, columns: Span, side: number): Promise<Values<Window>> {
    const place = this.place(name);
    const [rowStart, rowStop] = clip(rows, place.rows);
    const [columnStart, columnStop] = clip(columns, place.columns);
    const block = Math.max(1, Math.ceil(Math.max(rowStop - rowStart, columnStop - columnStart) / side));
    const height = Math.ceil((rowStop - rowStart) / block);
    const width = Math.ceil((columnStop - columnStart) / block);
    const values = new Float32Array(height * width);
    for (let row = 0; row < height; row++) {
      const first = rowStart + row * block;
      const last = Math.min(rowStop, first + block);
      for (let query = first; query < last; query++) {
        const weights = this.weights(place, query);
        for (let key = columnStart; key < columnStop; key++) {
          values[row * width + Math.floor((key - columnStart) / block)]! += weights[key]! / (last - first);
        }
      }
    }
    const header: Window = {
      row_start: rowStart,
      row_stop: rowStop,
      column_start: columnStart,
      column_stop: columnStop,
      block,
      height,
      width,
    };
    return { header, values };
  }

  async derivation(stack: StackName, layer: number): Promise<Derivation> {
    const found = this.data.derivations.find((derivation) => derivation.stack === stack && derivation.layer === layer);
    if (found === undefined) throw new AnswerError(`this page holds no derivation of ${stack} layer ${layer}`);
    return found;
  }

  async predictions(position: number): Promise<Predictions> {
    const found = this.data.predictions.find((predictions) => predictions.position === position);
    if (found === undefined) throw new AnswerError(`this page holds no predictions after position ${position}`);
    return found;
  }

  async alignment([start, stop]: Span): Promise<Alignment> {
    if (this.data.alignment === null) throw new AnswerError("this page holds no cross-attention");
    const words = this.data.alignment.words.filter((word) => start <= word.start && word.start < stop);
    return { row_start: start, row_stop: stop, words };
  }

  private place(name: HeadName): Place {
    const { overview } = this.data;
    const stack = overview.stacks.find((candidate) => candidate.name === name.stack);
    const embedded = this.data.layers[name.stack]?.find((candidate) => candidate.layer === name.layer);
    const head = stack?.heads.indexOf(name.head) ?? -1;
    if (stack === undefined || embedded === undefined || head < 0) {
      throw new AnswerError(`this page holds no ${name.stack} layer ${name.layer} head ${name.head}`);
    }
    const length = (side: string) => overview.sides.find((candidate) => candidate.name === side)!.tokens.length;
    return {
      stack,
      layer: this.decode(embedded),
      rows: length(stack.query_side),
      columns: length(stack.key_side),
      head,
    };
  }

  private decode(embedded: EmbeddedLayer): Layer {
    let layer = this.decoded.get(embedded);
    if (layer === undefined) {
      layer = {
        ...embedded,
        query: floatsOfBase64(embedded.query),
        key: floatsOfBase64(embedded.key),
        weights: floatsOfBase64(embedded.weights),
        lse: floatsOfBase64(embedded.lse),
        entropy: floatsOfBase64(embedded.entropy),
        received: floatsOfBase64(embedded.received),
        value_norm: floatsOfBase64(embedded.value_norm),
        output_norm: floatsOfBase64(embedded.output_norm),
      };
      this.decoded.set(embedded, layer);
    }
    return layer;
  }

  private weights({ layer, rows, columns, head }: Place, query: number): Float32Array {
    const start = (head * rows + query) * columns;
    return layer.weights.subarray(start, start + columns);
  }

  private links({ layer, columns, head }: Place, weights: Float32Array): Link[] {
    return [...weights.keys()]
      .sort((a, b) => weights[b]! - weights[a]! || a - b)
      .slice(0, LINKS)
      .filter((key) => weights[key]! > 0)
      .map((key) => ({ key, weight: weights[key]!, value_norm: layer.value_norm[head * columns + key]! }));
  }
}

function clip([start, stop]: Span, length: number): Span {
  const from = Math.max(0, Math.min(start, length));
  return [from, Math.max(from, Math.min(stop, length))];
}
