/** An interlinear gloss: beneath each written word, small, the word of the input that it came from. */

import { effect } from "@preact/signals";
import type { Aligned } from "../aligned";
import type { Side, Token } from "../contract";
import { css, glossColour } from "../draw/ink";
import { weightText } from "../format";
import { label } from "../text";
import { palette } from "../theme";
import { runs, textOf } from "../words";
import { TokenSpan } from "./token";

/** Tokens with a place beneath each word; it is there from the start, so that lines do not jump when it is filled. */
export function GlossedTokens({ tokens }: { tokens: readonly Token[] }) {
  return (
    <>
      {runs(tokens).map((run) => (
        <>
          {tokens[run[0]!.start]!.space && run[0]!.start > 0 ? " " : null}
          <span class="run">
            {run.map(({ start, stop, word }) => {
              const pieces = tokens
                .slice(start, stop)
                .map((token, at) => <TokenSpan token={token} before={tokens[start + at - 1]} index={start + at} />);
              return word !== null ? (
                <span class="word" data-word={word}>
                  <span class="written">{pieces}</span>
                  <span class="gloss" />
                </span>
              ) : (
                pieces
              );
            })}
          </span>
        </>
      ))}
    </>
  );
}

/** Fill the glosses in as they come to be known. */
export function writeGlosses(pane: HTMLElement, aligned: Aligned, read: Side): () => void {
  const places = new Map(
    [...pane.querySelectorAll<HTMLElement>(".word")].map((word) => [Number(word.dataset.word), word.lastElementChild]),
  );
  let written = 0;
  let colours = palette.peek();
  return effect(() => {
    const { known } = aligned;
    if (palette.value !== colours) written = 0;
    colours = palette.value;
    for (const { words } of known.value.slice(written)) {
      for (const { start, read_start, read_stop, weight } of words) {
        const gloss = places.get(start) as HTMLElement | undefined;
        if (gloss === undefined) continue;
        const text = label({ text: textOf(read.tokens, read_start, read_stop) });
        gloss.textContent = text;
        gloss.title = `${text} ${weightText(weight)}`;
        gloss.style.color = css(glossColour(weight, colours));
      }
    }
    written = known.value.length;
  });
}

/** Tell which tokens of a text are seen: all of a short one; of a long one what its pane shows, and as much after that. */
export function followSeen(
  pane: HTMLElement,
  spans: readonly HTMLElement[],
  long: boolean,
  aligned: Aligned,
): () => void {
  const look = () => {
    const start = firstBelow(spans, pane.scrollTop);
    aligned.seen.value = long
      ? [start, firstBelow(spans, pane.scrollTop + 2 * pane.clientHeight, start)]
      : [0, spans.length];
  };
  look();
  const resized = new ResizeObserver(look);
  resized.observe(pane);
  pane.addEventListener("scroll", look, { passive: true });
  return () => {
    resized.disconnect();
    pane.removeEventListener("scroll", look);
    aligned.seen.value = null;
  };
}

/** The first token, from `low` on, that ends below a height within the pane. */
function firstBelow(spans: readonly HTMLElement[], height: number, low = 0): number {
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const span = spans[middle]!;
    if (span.offsetTop + span.offsetHeight > height) high = middle;
    else low = middle + 1;
  }
  return low;
}
