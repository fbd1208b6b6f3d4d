/** Tokens as words, and words as what stays on one line: what an interlinear gloss stands under. */

import type { Token } from "./contract";

/** Neighbouring tokens. */
export interface Part {
  /** First token, and one past the last. */
  readonly start: number;
  readonly stop: number;
  /** First token of the word among them, which has a letter or a digit; null where there are only marks. */
  readonly word: number | null;
}

const LETTER = /[\p{L}\p{N}]/u;
const OPENING = /^[\p{Ps}\p{Pi}]+$/u;
/** Written without spaces: a line may break before and after each word. */
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}]/u;

/** Characters of a run; what is longer, an address say, has to break somewhere. */
const LONGEST_RUN = 28;

/** Whether a text has words at all; a sound or a picture has none. */
export function hasWords(tokens: readonly Token[]): boolean {
  return tokens.some((token) => token.word >= 0 && LETTER.test(token.text));
}

/**
 * The text as runs that stay on one line, such as *n'existe*, and each run as words with the marks that lean on them:
 * *n'* and *existe*.
 */
export function runs(tokens: readonly Token[]): Part[][] {
  const found: Part[][] = [];
  for (const next of parts(tokens)) {
    const run = found[found.length - 1];
    const last = run?.[run.length - 1];
    if (run === undefined || last === undefined || parted(tokens, run, next)) found.push([next]);
    else if (last.word === null || next.word === null)
      run[run.length - 1] = { start: last.start, stop: next.stop, word: last.word ?? next.word };
    else run.push(next);
  }
  return found;
}

export function textOf(tokens: readonly Token[], start: number, stop: number): string {
  return tokens
    .slice(start, stop)
    .map((token) => token.text)
    .join("");
}

/** Each word, and each mark and special token on its own. */
function parts(tokens: readonly Token[]): Part[] {
  const found: Part[] = [];
  tokens.forEach((token, index) => {
    const last = found[found.length - 1];
    const continues = last !== undefined && token.word >= 0 && tokens[index - 1]!.word === token.word;
    const start = continues ? last.start : index;
    const word = token.word >= 0 && LETTER.test(textOf(tokens, start, index + 1)) ? start : null;
    if (continues) found.pop();
    found.push({ start, stop: index + 1, word });
  });
  return found;
}

/** Whether a line may break between a run and the part that follows it. */
function parted(tokens: readonly Token[], run: readonly Part[], next: Part): boolean {
  const first = tokens[next.start]!;
  const before = tokens[next.start - 1]!;
  if (first.space || first.special || before.special || before.text.includes("\n")) return true;
  if (OPENING.test(before.text)) return false;
  if (next.word === null) return OPENING.test(first.text);
  const text = textOf(tokens, next.start, next.stop);
  const all = textOf(tokens, run[0]!.start, next.start);
  return UNSPACED.test(text) || UNSPACED.test(all) || all.length + text.length > LONGEST_RUN;
}
