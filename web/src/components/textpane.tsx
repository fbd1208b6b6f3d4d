/**
 * A text of tokens that can be asked and inked.
 *
 * The spans are made once; asking another word changes only those whose ink changes. A weight has one of a few levels of
 * ink, so sweeping over a text of thousands of tokens touches some hundreds of spans.
 */

import { effect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { usePage } from "../context";
import type { Side, Token } from "../contract";
import { painted } from "../debug";
import { INK_POWER, type Palette, css, inkColour, inkOf, readableOn } from "../draw/ink";
import { palette } from "../theme";
import { found } from "./search";

export const INK_LEVELS = 48;

interface Props {
  side: Side;
  /** Its words can be asked: they are queries. */
  asks: boolean;
  /** Its words are read: they take ink. */
  reads: boolean;
  long: boolean;
}

export function TextPane({ side, asks, reads, long }: Props) {
  const { explorer } = usePage();
  const pane = useRef<HTMLDivElement>(null);
  const words = useMemo(() => <Tokens tokens={side.tokens} />, [side]);

  useEffect(() => {
    const spans = [...pane.current!.querySelectorAll<HTMLElement>("[data-i]")];
    const levels = new Uint8Array(spans.length);
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
      asks ? mark(spans, "is-query", () => explorer.query.value) : () => {},
      reads
        ? mark(spans, "is-key", () =>
            explorer.pointed.value.query === null || explorer.pointed.value.key !== null
              ? (explorer.pointed.value.key ?? explorer.selection.value.key)
              : null,
          )
        : () => {},
      effect(() => {
        const result = found.value;
        if (result === null || result.side !== side.name) return;
        const marked = spans.slice(result.match.first, result.match.last + 1);
        for (const span of marked) span.classList.add("is-found");
        if (marked[0]) bring(marked[0], pane.current!);
        return () => marked.forEach((span) => span.classList.remove("is-found"));
      }),
      // What is asked on the map or by keys is brought into the pane; what the pointer is on is there already.
      effect(() => {
        const span = spans[asks ? explorer.query.value : (explorer.pointed.value.key ?? explorer.selection.value.key)];
        if (span && long && !pane.current!.matches(":hover")) bring(span, pane.current!);
      }),
    ];
    return () => stops.forEach((stop) => stop());
  }, [side, asks, reads, long]);

  const at = (event: Event) => {
    const index = (event.target as HTMLElement).closest<HTMLElement>("[data-i]")?.dataset.i;
    return index === undefined ? null : Number(index);
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

/** Keep a class on the one span that a signal names. */
function mark(spans: readonly HTMLElement[], name: string, index: () => number | null): () => void {
  let before: HTMLElement | undefined;
  return effect(() => {
    const now = index();
    before?.classList.remove(name);
    before = now === null ? undefined : spans[now];
    before?.classList.add(name);
  });
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
      {tokens.map((token, index) => {
        const breaks = token.text.includes("\n");
        return (
          <>
            {token.space && index > 0 ? " " : null}
            <span class={tokenClass(token, tokens[index - 1])} data-i={index}>
              {breaks ? token.text.replaceAll("\n", "↵") : token.text}
            </span>
            {breaks ? <br /> : null}
          </>
        );
      })}
    </>
  );
}

function tokenClass(token: Token, before: Token | undefined): string {
  const piece = !token.space && before !== undefined && token.word >= 0 && token.word === before.word;
  return `token${token.special ? " special" : ""}${token.generated ? " generated" : ""}${piece ? " piece" : ""}`;
}
