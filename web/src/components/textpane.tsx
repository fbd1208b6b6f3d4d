/**
 * A text of tokens that can be asked and inked.
 *
 * The spans are made once; asking another word changes only those whose ink changes. A weight has one of a few levels of
 * ink, so sweeping over a text of thousands of tokens touches some hundreds of spans.
 */

import { computed, effect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { usePage } from "../context";
import type { Side, Token } from "../contract";
import { painted } from "../debug";
import { INK_POWER, type Palette, css, inkColour, inkOf, readableOn } from "../draw/ink";
import type { Span } from "../source/source";
import { palette } from "../theme";
import { GlossedTokens, followSeen, writeGlosses } from "./gloss";
import { found } from "./search";
import { TokenSpan } from "./token";

export const INK_LEVELS = 48;

interface Props {
  side: Side;
  /** Its words can be asked: they are queries. */
  asks: boolean;
  /** Its words are read: they take ink. */
  reads: boolean;
  long: boolean;
  /** The text whose words stand beneath the ones that were written; null for none. */
  glossedBy?: Side | null;
}

export function TextPane({ side, asks, reads, long, glossedBy = null }: Props) {
  const { explorer } = usePage();
  const pane = useRef<HTMLDivElement>(null);
  const glossed = glossedBy !== null;
  const words = useMemo(
    () => (glossed ? <GlossedTokens tokens={side.tokens} /> : <Tokens tokens={side.tokens} />),
    [side, glossed],
  );

  useEffect(() => {
    const spans = [...pane.current!.querySelectorAll<HTMLElement>("[data-i]")];
    const levels = new Uint8Array(spans.length);
    const aligned = computed(() => (reads && !asks ? explorer.aligned.at(explorer.query.value) : null));
    let inks: { palette: Palette; levels: { background: string; color: string }[] } | null = null;
    const stops = [
      effect(() => {
        const row = reads ? explorer.weights.value : null;
        const repaint = inks?.palette !== palette.value;
        if (repaint) inks = { palette: palette.value, levels: inkLevels(palette.value) };
        if (row === null) return;
        for (let index = 0; index < spans.length; index++) {
          const level = Math.round(inkOf(row.weights[index] ?? 0) * (INK_LEVELS - 1));
          if (level === levels[index] && !repaint) continue;
          levels[index] = level;
          const { style } = spans[index]!;
          style.background = level === 0 ? "" : inks!.levels[level]!.background;
          style.color = level === 0 ? "" : inks!.levels[level]!.color;
        }
        painted(row.query, row.weights);
      }),
      asks ? mark(spans, "is-query", () => one(explorer.query.value)) : () => {},
      reads
        ? mark(spans, "is-key", () =>
            explorer.pointed.value.query === null || explorer.pointed.value.key !== null
              ? one(explorer.pointed.value.key ?? explorer.selection.value.key)
              : null,
          )
        : () => {},
      mark(spans, "is-aligned", () => aligned.value && [aligned.value.read_start, aligned.value.read_stop]),
      glossedBy !== null ? writeGlosses(pane.current!, explorer.aligned, glossedBy) : () => {},
      glossedBy !== null ? followSeen(pane.current!, spans, long, explorer.aligned) : () => {},
      effect(() => {
        const result = found.value;
        if (result === null || result.side !== side.name) return;
        const marked = spans.slice(result.match.first, result.match.last + 1);
        for (const span of marked) span.classList.add("is-found");
        if (marked[0]) bring(marked[0], pane.current!);
        return () => marked.forEach((span) => span.classList.remove("is-found"));
      }),
      // What is asked on the map or by keys is brought into the pane, and where a word came from that is pointed at;
      // what the pointer is on is there already.
      effect(() => {
        const { query, key } = explorer.pointed.value;
        const read = query !== null && key === null ? aligned.value?.read_start : (key ?? explorer.selection.value.key);
        const span = spans[(asks ? explorer.query.value : read) ?? -1];
        if (span && long && !pane.current!.matches(":hover")) bring(span, pane.current!);
      }),
    ];
    return () => stops.forEach((stop) => stop());
  }, [side, asks, reads, long, glossedBy]);

  const at = (event: Event) => {
    const { i, word } = (event.target as HTMLElement).closest<HTMLElement>("[data-i], .word")?.dataset ?? {};
    return i !== undefined ? Number(i) : word !== undefined ? Number(word) : null;
  };
  return (
    <div
      ref={pane}
      class={long ? "text pane" : "text line"}
      tabIndex={long ? 0 : -1}
      onPointerOver={(event) => {
        if (event.pointerType === "touch") return;
        const index = at(event);
        if (index !== null) explorer.pointed.value = asks ? { query: index, key: null } : { query: null, key: index };
      }}
      onPointerLeave={() => (explorer.pointed.value = { query: null, key: null })}
      onClick={(event) => {
        const index = at(event);
        if (index === null) return;
        if (asks) void explorer.selectQuery(index);
        else explorer.select({ key: index });
      }}
    >
      {words}
    </div>
  );
}

function inkLevels(of: Palette): { background: string; color: string }[] {
  return Array.from({ length: INK_LEVELS }, (_, level) => {
    const colour = inkColour((level / (INK_LEVELS - 1)) ** (1 / INK_POWER), of);
    return { background: css(colour), color: readableOn(colour, of) };
  });
}

/** Keep a class on the tokens that a signal names. */
function mark(spans: readonly HTMLElement[], name: string, tokens: () => Span | null): () => void {
  let before: readonly HTMLElement[] = [];
  return effect(() => {
    const now = tokens();
    for (const span of before) span.classList.remove(name);
    before = now === null ? [] : spans.slice(...now);
    for (const span of before) span.classList.add(name);
  });
}

function one(token: number): Span {
  return [token, token + 1];
}

/** Scroll the pane, and only the pane, until a word is in it. */
function bring(span: HTMLElement, pane: HTMLElement): void {
  const top = span.offsetTop; // within the pane, which is its offset parent
  const room = pane.clientHeight;
  if (top < pane.scrollTop + 8 || top + span.offsetHeight > pane.scrollTop + room - 8) pane.scrollTop = top - room / 2;
}

function Tokens({ tokens }: { tokens: readonly Token[] }) {
  return (
    <>
      {tokens.map((token, index) => (
        <>
          {token.space && index > 0 ? " " : null}
          <TokenSpan token={token} before={tokens[index - 1]} index={index} />
        </>
      ))}
    </>
  );
}
