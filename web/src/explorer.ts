/**
 * What the page knows and shows: the selection, what the pointer asks for, and the answers that follow from both.
 *
 * Everything is a signal. Components read them; only the functions at the end change them.
 */

import { type ReadonlySignal, type Signal, batch, computed, effect, signal } from "@preact/signals";
import { type Aligned, createAligned } from "./aligned";
import type {
  Derivation,
  Head,
  Link,
  Overview,
  Pair,
  Predictions,
  Row,
  Selection,
  Side,
  Stack,
  StackName,
  Thumbnails,
  Window,
} from "./contract";
import { fit, readHash, sideOf, stackOf, writeHash } from "./hash";
import { type Resource, resource } from "./resource";
import type { HeadName, Source, Span, Values } from "./source/source";

/** Most tokens on a side for which a head's whole map is asked for at once, exactly. */
export const WHOLE_MAP = 512;

export interface RowQuestion extends HeadName {
  readonly query: number;
}

export interface WindowQuestion extends HeadName {
  readonly rows: Span;
  readonly columns: Span;
  /** Most cells on an axis. */
  readonly side: number;
}

export interface Explorer {
  readonly overview: Overview;
  readonly source: Source;
  readonly selection: ReadonlySignal<Selection>;
  readonly stack: ReadonlySignal<Stack>;
  readonly querySide: ReadonlySignal<Side>;
  readonly keySide: ReadonlySignal<Side>;
  /** What the pointer is on, in the text or on the map. */
  readonly pointed: Signal<{ query: number | null; key: number | null }>;
  /** Pixels that the map of a long text has on an axis; null before it is known. More cells than these are not asked for. */
  readonly mapPixels: Signal<number | null>;
  /** The head under the pointer among all heads. */
  readonly preview: Signal<HeadName | null>;
  /** The query whose row the text shows: pointed at, else selected. */
  readonly query: ReadonlySignal<number>;

  readonly head: Resource<HeadName, Head>;
  readonly row: Resource<RowQuestion, Row>;
  readonly pair: Resource<Selection, Pair>;
  readonly whole: Resource<WindowQuestion, Values<Window>>;
  readonly derivation: Resource<{ stack: StackName; layer: number }, Derivation>;
  readonly predictions: Resource<number, Predictions>;
  readonly aligned: Aligned;
  readonly thumbnails: ReadonlyMap<StackName, Resource<StackName, Values<Thumbnails>>>;

  /** The weights of `query`'s row, as soon as they are known: from the map where it is exact, else asked for. */
  readonly weights: ReadonlySignal<{ query: number; weights: ArrayLike<number> } | null>;

  select(change: Partial<Selection>): void;
  selectHead(head: HeadName): void;
  /** Ask another query; its strongest reading becomes the key. */
  selectQuery(query: number): Promise<void>;
  moveHead(step: number): void;
  moveLayer(step: number): void;
  movePair(query: number, key: number): void;
}

/** A signal whose value is kept, by identity, while `name` says that it is the same. */
function steady<T>(compute: () => T, name: (value: T) => string): ReadonlySignal<T> {
  let last: { name: string; value: T } | null = null;
  return computed(() => {
    const value = compute();
    const called = name(value);
    if (last === null || last.name !== called) last = { name: called, value };
    return last.value;
  });
}

const named = (value: unknown) => JSON.stringify(value);

export function createExplorer(overview: Overview, source: Source, opening: Selection): Explorer {
  const selection = signal<Selection>(opening);
  const pointed = signal<{ query: number | null; key: number | null }>({ query: null, key: null });
  const preview = signal<HeadName | null>(null);
  const mapPixels = signal<number | null>(null);

  const stack = computed(() => stackOf(overview, selection.value.stack));
  const querySide = computed(() => sideOf(overview, stack.value.query_side));
  const keySide = computed(() => sideOf(overview, stack.value.key_side));
  const query = computed(() => pointed.value.query ?? selection.value.query);

  const headName = steady<HeadName>(
    () => ({ stack: selection.value.stack, layer: selection.value.layer, head: selection.value.head }),
    named,
  );
  const head = resource(headName, (name) => source.head(name));
  const pair = resource<Selection, Pair>(selection, (asked) => source.pair(asked, asked.query, asked.key));

  const wholeQuestion = steady<WindowQuestion | null>(() => {
    const exact = fitsExactly(querySide.value, keySide.value);
    if (!exact && mapPixels.value === null) return null;
    const side = exact ? WHOLE_MAP : Math.min(WHOLE_MAP, mapPixels.value!);
    return {
      ...headName.value,
      rows: [0, querySide.value.tokens.length],
      columns: [0, keySide.value.tokens.length],
      side,
    };
  }, named);
  const whole = resource(wholeQuestion, (asked) => source.window(asked, asked.rows, asked.columns, asked.side));

  /** The exact map of the selected head, where it is known. */
  const exact = computed(() => {
    const known = whole.answer.value;
    return known !== null && known.question === wholeQuestion.value && known.value.header.block === 1
      ? known.value
      : null;
  });
  const rowQuestion = steady<RowQuestion | null>(
    () => (fitsExactly(querySide.value, keySide.value) ? null : { ...headName.value, query: query.value }),
    named,
  );
  const row = resource(rowQuestion, (asked) => source.row(asked, asked.query));
  const weights = computed(() => {
    const map = exact.value;
    if (map !== null) {
      const { width } = map.header;
      return { query: query.value, weights: map.values.subarray(query.value * width, (query.value + 1) * width) };
    }
    const known = row.answer.value;
    if (known === null || known.question.stack !== headName.value.stack) return null;
    return { query: known.value.query, weights: known.value.weights };
  });

  const derivationQuestion = steady(() => ({ stack: selection.value.stack, layer: selection.value.layer }), named);
  const derivation = resource(derivationQuestion, (asked) => source.derivation(asked.stack, asked.layer));
  const predictionsQuestion = computed(() =>
    overview.predicts && stack.value.name === "decoder" ? selection.value.query : null,
  );
  const predictions = resource(predictionsQuestion, (position) => source.predictions(position));
  const aligned = createAligned(overview, source);
  const thumbnails = new Map(
    overview.stacks.map(
      ({ name }) => [name, resource(signal<StackName | null>(name), (asked) => source.thumbnails(asked))] as const,
    ),
  );

  function select(change: Partial<Selection>): void {
    const next = fit(change, selection.value, overview);
    if (writeHash(next) !== writeHash(selection.value)) selection.value = next;
  }

  function selectHead(name: HeadName): void {
    const before = selection.value.stack;
    batch(() => {
      preview.value = null;
      pointed.value = { query: null, key: null };
      select(name);
    });
    if (before !== name.stack) void selectQuery(selection.value.query);
  }

  async function selectQuery(asked: number): Promise<void> {
    const name = headName.value;
    select({ query: asked });
    const answer = await source.row(name, asked).catch(() => null);
    const current = selection.value;
    if (answer === null || current.query !== asked || headName.value !== name) return;
    const { query_side, key_side } = stackOf(overview, name.stack);
    const telling = strongest(answer.links, sideOf(overview, key_side), query_side === key_side ? asked : null);
    if (telling !== null) select({ key: telling });
  }

  function moveHead(step: number): void {
    const { layers, heads } = stack.value;
    const at = layers.indexOf(selection.value.layer) * heads.length + heads.indexOf(selection.value.head);
    const next = (at + step + layers.length * heads.length) % (layers.length * heads.length);
    selectHead({
      stack: stack.value.name,
      layer: layers[Math.floor(next / heads.length)]!,
      head: heads[next % heads.length]!,
    });
  }

  function moveLayer(step: number): void {
    const { layers, name } = stack.value;
    const next = (layers.indexOf(selection.value.layer) + step + layers.length) % layers.length;
    selectHead({ stack: name, layer: layers[next]!, head: selection.value.head });
  }

  function movePair(queryStep: number, keyStep: number): void {
    batch(() => {
      pointed.value = { query: null, key: null };
      const { query: from, key: to } = selection.value;
      select({
        query: clamp(from + queryStep, querySide.value.tokens.length),
        key: clamp(to + keyStep, keySide.value.tokens.length),
      });
    });
  }

  return {
    overview,
    source,
    selection,
    stack,
    querySide,
    keySide,
    pointed,
    mapPixels,
    preview,
    query,
    head,
    row,
    pair,
    whole,
    derivation,
    predictions,
    aligned,
    thumbnails,
    weights,
    select,
    selectHead,
    selectQuery,
    moveHead,
    moveLayer,
    movePair,
  };
}

/** Keep the address and the selection the same, both ways. */
export function followAddress(explorer: Explorer): void {
  effect(() => {
    const hash = writeHash(explorer.selection.value);
    if (location.hash !== hash) history.replaceState(null, "", hash);
  });
  addEventListener("hashchange", () => explorer.select(readHash(location.hash, explorer.overview)));
}

function fitsExactly(one: Side, other: Side): boolean {
  return one.tokens.length <= WHOLE_MAP && other.tokens.length <= WHOLE_MAP;
}

/** The key from which most arrives (weight x length of value), other than the query itself where there is another. */
export function strongest(links: readonly Link[], side: Side, query: number | null): number | null {
  const others = links.filter((link) => link.key !== query && !side.tokens[link.key]?.special);
  const [best] = (others.length > 0 ? others : [...links]).sort(
    (a, b) => b.weight * b.value_norm - a.weight * a.value_norm,
  );
  return best?.key ?? null;
}

function clamp(index: number, length: number): number {
  return Math.max(0, Math.min(length - 1, index));
}
