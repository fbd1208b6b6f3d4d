/**
 * Which word of the input each written word came from, asked for as far as the text is seen.
 *
 * A long target is asked in blocks of rows; what has come stays.
 */

import { type ReadonlySignal, type Signal, computed, effect, signal } from "@preact/signals";
import type { AlignedWord, Alignment, Overview } from "./contract";
import { type Resource, resource } from "./resource";
import type { Source, Span } from "./source/source";
import { hasWords } from "./words";

/** Tokens in a block: more than a short text has, a screenful of a long one. */
export const BLOCK = 128;

export interface Aligned {
  /** The tokens of the target that are on the screen, and some that follow; null while there is no such text. */
  readonly seen: Signal<Span | null>;
  readonly block: Resource<number, Alignment>;
  /** All that has come, in the order of coming. */
  readonly known: ReadonlySignal<readonly Alignment[]>;
  /** The word that a token of the target belongs to, where it is known. */
  at(token: number): AlignedWord | null;
}

/** Whether a written text can be aligned: there is cross-attention, and what it reads has words. */
export function aligns(overview: Overview): boolean {
  const cross = overview.stacks.find((stack) => stack.name === "cross");
  const read = overview.sides.find((side) => side.name === cross?.key_side);
  return read !== undefined && hasWords(read.tokens);
}

export function createAligned(overview: Overview, source: Source): Aligned {
  const seen = signal<Span | null>(null);
  const known = signal<readonly Alignment[]>([]);
  const words = new Map<number, AlignedWord>();
  const length = overview.sides.find((side) => side.name === "target")?.tokens.length ?? 0;

  /** The first block that is seen and not known. */
  const missing = computed<number | null>(() => {
    if (seen.value === null) return null;
    const [start, stop] = seen.value;
    const come = new Set(known.value.map((alignment) => alignment.row_start / BLOCK));
    for (let at = Math.floor(start / BLOCK); at * BLOCK < Math.min(stop, length); at++) if (!come.has(at)) return at;
    return null;
  });
  const block = resource(missing, (at) => source.alignment([at * BLOCK, Math.min((at + 1) * BLOCK, length)]));
  effect(() => {
    const come = block.answer.value?.value;
    if (come === undefined) return;
    for (const word of come.words) for (let token = word.start; token < word.stop; token++) words.set(token, word);
    known.value = [...known.peek(), come];
  });

  return {
    seen,
    block,
    known,
    at(token) {
      return known.value.length > 0 ? (words.get(token) ?? null) : null;
    },
  };
}
