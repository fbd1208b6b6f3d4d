import { describe, expect, it, vi } from "vitest";
import { BLOCK, aligns, createAligned } from "../src/aligned";
import type { AlignedWord, Alignment, Embedded, Overview, SideName, Token } from "../src/contract";
import { PALETTES, contrast, glossColour, parseHex } from "../src/draw/ink";
import { EmbeddedSource } from "../src/source/embedded";
import { ServerSource } from "../src/source/server";
import { AnswerError, type Source } from "../src/source/source";
import { hasWords, runs, textOf } from "../src/words";
import fixture from "./fixtures/embedded.json";

const embedded = fixture as unknown as Embedded;
const settle = () => new Promise((done) => setTimeout(done, 5));

/** Tokens from "Le fich+ier n+'": a blank is a space, a plus goes on with a word, <...> is special. */
function tokens(text: string): Token[] {
  let word = -1;
  return [...text.matchAll(/( ?)(\+?)(<[^>]*>|[\p{L}\p{N}]+|[^\p{L}\p{N}+< ]+)/gu)].map(([, space, plus, piece]) => ({
    text: piece!,
    space: space !== "",
    special: piece!.startsWith("<"),
    generated: true,
    word: piece!.startsWith("<") ? -1 : plus === "" ? ++word : word,
  }));
}

/** Runs as they are read: words between bars, what has no word in brackets. */
function read(text: string): string[] {
  const all = tokens(text);
  return runs(all).map((run) =>
    run
      .map(({ start, stop, word }) => (word === null ? `[${textOf(all, start, stop)}]` : textOf(all, start, stop)))
      .join("|"),
  );
}

describe("lines break", () => {
  it("between words, never between a word and the marks that lean on it", () => {
    expect(read("<s>Le fich+ier (ou 'rien' ), voilà !</s>")).toEqual([
      "[<s>]",
      "Le",
      "fichier",
      "(ou",
      "'rien'",
      "[),]",
      "voilà",
      "[!]",
      "[</s>]",
    ]);
  });

  it("not where an apostrophe or a hyphen joins two words, each of which has its own", () => {
    expect(read("il n'existe peut-être")).toEqual(["il", "n'|existe", "peut-|être"]);
  });

  it("between words that are written without spaces, but before no closing mark", () => {
    const all = tokens("无法").concat(tokens("打开「文件」。").map((token) => ({ ...token, word: token.word + 1 })));
    const pieces = runs(all).map((run) => run.map(({ start, stop }) => textOf(all, start, stop)).join("|"));
    expect(pieces).toEqual(["无法", "打开", "「文件」。"]);
  });

  it("within what is too long for a line", () => {
    const found = runs(tokens("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z"));
    expect(found.length).toBe(2);
    expect(found.flat().length).toBe(26);
  });

  it("keep every token, in order, and name the word among its marks", () => {
    const all = tokens("<s>Le (fich+ier) n'est .");
    const parts = runs(all).flat();
    expect(parts.flatMap(({ start, stop }) => all.slice(start, stop))).toEqual(all);
    expect(parts.map(({ word }) => word)).toEqual([null, 1, 3, 6, 8, null]);
  });
});

describe("the colour of a gloss", () => {
  it("is readable whatever the weight, and the key's at most", () => {
    for (const palette of Object.values(PALETTES)) {
      for (let weight = 0; weight <= 1; weight += 0.01)
        expect(contrast(glossColour(weight, palette), parseHex(palette.paper))).toBeGreaterThanOrEqual(4.5);
      expect(glossColour(1, palette)).toEqual(parseHex(palette.keyText));
      expect(glossColour(0, palette)).toEqual(parseHex(palette.soft));
    }
  });
});

function overviewOf(target: number, input: Token[]): Overview {
  const [stack] = embedded.overview.stacks;
  const written = Array.from({ length: target }, (_, word) => ({ ...tokens("mot")[0]!, word }));
  const side = (name: SideName, own: Token[]) => ({ name, tokens: own });
  return {
    ...embedded.overview,
    sides: [side("input", input), side("target", written)],
    stacks: [{ ...stack!, name: "cross", query_side: "target", key_side: "input" }],
  };
}

describe("alignment", () => {
  const word = (start: number): AlignedWord => ({ start, stop: start + 1, read_start: 0, read_stop: 1, weight: 0.5 });
  const source = () => {
    const alignment = vi.fn(
      async ([row_start, row_stop]: readonly [number, number]): Promise<Alignment> => ({
        row_start,
        row_stop,
        words: Array.from({ length: row_stop - row_start }, (_, at) => word(row_start + at)),
      }),
    );
    return { alignment, source: { alignment } as unknown as Source };
  };

  it("is asked for as far as the text is seen, and for nothing twice", async () => {
    const { alignment, source: from } = source();
    const aligned = createAligned(overviewOf(700, tokens("word")), from);
    await settle();
    expect(alignment).not.toHaveBeenCalled();
    aligned.seen.value = [BLOCK - 1, BLOCK + 1];
    await settle();
    expect(alignment.mock.calls.map(([rows]) => rows)).toEqual([
      [0, BLOCK],
      [BLOCK, 2 * BLOCK],
    ]);
    expect(aligned.at(BLOCK)!.start).toBe(BLOCK);
    expect(aligned.at(2 * BLOCK)).toBeNull();
    aligned.seen.value = [0, BLOCK];
    aligned.seen.value = [650, 700];
    await settle();
    expect(alignment.mock.calls.slice(2)).toEqual([[[5 * BLOCK, 700]]]);
    expect(aligned.known.value.length).toBe(3);
  });

  it("is there for texts, not for sounds and pictures, nor without cross-attention", () => {
    expect(aligns(overviewOf(3, tokens("a word")))).toBe(true);
    expect(aligns(overviewOf(3, tokens("…")))).toBe(false);
    expect(aligns(overviewOf(3, [{ ...tokens("x")[0]!, text: "", word: -1 }]))).toBe(false);
    expect(aligns({ ...overviewOf(3, []), sides: overviewOf(3, []).sides.slice(1) })).toBe(false);
    expect(aligns(embedded.overview)).toBe(false);
    expect(hasWords(tokens("<s>"))).toBe(false);
  });

  it("is asked of the server by rows", async () => {
    const ask = vi.fn(async () => new Response('{"row_start":0,"row_stop":5,"words":[]}'));
    await new ServerSource("api/", ask).alignment([0, 5]);
    expect(ask.mock.calls).toEqual([["api/alignment?rows=0%3A5"]]);
  });

  it("stands in a self-contained page, whole", async () => {
    const whole = { row_start: 0, row_stop: 9, words: [word(1), word(4), word(7)] };
    const page = new EmbeddedSource({ ...embedded, alignment: whole });
    expect(await page.alignment([4, 7])).toEqual({ row_start: 4, row_stop: 7, words: [word(4)] });
    await expect(new EmbeddedSource(embedded).alignment([0, 5])).rejects.toThrow(AnswerError);
  });
});
