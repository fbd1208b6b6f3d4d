/** Tokens as people read them: labels for axes, and finding words in running text. */

import type { Token } from "./contract";

const MARKS: Record<string, string> = { "\n": "↵", "\t": "⇥", " ": "␣" };

/** What stands for a token outside running text: never empty, no line breaks. */
export function label(token: Pick<Token, "text"> | undefined, longest = 24): string {
  const text = token?.text ?? "";
  const visible =
    text.trim() === "" ? [...text].map((mark) => MARKS[mark] ?? "·").join("") || "·" : text.replace(/\s+/g, " ").trim();
  const marks = [...visible];
  return marks.length > longest ? `${marks.slice(0, longest - 1).join("")}…` : visible;
}

/** Where each token starts in the running text, which is the last element. */
export function running(tokens: readonly Token[]): { starts: number[]; text: string } {
  const starts: number[] = [];
  let text = "";
  for (const token of tokens) {
    if (token.space) text += " ";
    starts.push(text.length);
    if (!token.special) text += token.text;
  }
  return { starts, text };
}

export interface Found {
  /** The first and the last token of the match. */
  readonly first: number;
  readonly last: number;
}

/** Every place where the words stand, upper and lower case alike; special tokens are found by their own name. */
export function find(tokens: readonly Token[], words: string, most = 1000): Found[] {
  const wanted = words.trim().toLowerCase();
  if (wanted === "") return [];
  const { starts, text } = running(tokens);
  const lower = text.toLowerCase();
  const found: Found[] = [];
  tokens.forEach((token, index) => {
    if (token.special && token.text.toLowerCase() === wanted) found.push({ first: index, last: index });
  });
  for (let at = lower.indexOf(wanted); at >= 0 && found.length < most; at = lower.indexOf(wanted, at + wanted.length)) {
    found.push({ first: tokenAt(starts, at), last: tokenAt(starts, at + wanted.length - 1) });
  }
  return found.sort((a, b) => a.first - b.first);
}

/** The last token that starts at or before a position. */
function tokenAt(starts: readonly number[], position: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= position) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Whether a text is long enough to be read in a pane and seen as a map from above. */
export const LONG_TEXT = 120;
