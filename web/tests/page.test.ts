import { signal } from "@preact/signals";
import { describe, expect, it, vi } from "vitest";
import type { Embedded, Token } from "../src/contract";
import { createExplorer } from "../src/explorer";
import { cellWeight, fixed, isRootScale, percent, quantity, weightText } from "../src/format";
import { readHash, writeHash } from "../src/hash";
import { disconnected, resource } from "../src/resource";
import { EmbeddedSource } from "../src/source/embedded";
import { ServerSource } from "../src/source/server";
import { AnswerError, ConnectionError } from "../src/source/source";
import { find, label, running } from "../src/text";
import fixture from "./fixtures/embedded.json";

const embedded = fixture as unknown as Embedded;
const { overview } = embedded;
const settle = () => new Promise((done) => setTimeout(done, 5));

describe("numbers", () => {
  it("are written so that columns line up", () => {
    expect([cellWeight(0.64), cellWeight(0.999), cellWeight(1)]).toEqual([".64", "1", "1"]);
    expect([fixed(-1.25, 1), fixed(-0.001, 2), fixed(0, 2)]).toEqual(["−1.3", "0.00", "0.00"]);
    expect([weightText(0), weightText(0.64), weightText(0.00042), weightText(1.7e-12)]).toEqual([
      "0",
      "0.640",
      "0.00042",
      "1.7 × 10⁻¹²",
    ]);
    expect([quantity(20.514), quantity(-412.34), quantity(12345.6)]).toEqual(["20.51", "−412.3", "12346"]);
    expect(percent(0.1234)).toBe("12.3%");
  });

  it("know the textbook's scale from a model's own", () => {
    expect(isRootScale(Math.fround(1 / Math.sqrt(32)), 32)).toBe(true);
    expect(isRootScale(1, 32)).toBe(false);
  });
});

describe("the text", () => {
  const token = (text: string, space = true): Token => ({ text, space, special: false, generated: false, word: 0 });
  const tokens = [
    { ...token("[CLS]", false), special: true, word: -1 },
    token("The", false),
    token("un"),
    token("believ", false),
    token("able", false),
    token("The"),
    token("\n", false),
  ];

  it("has labels for what cannot be seen", () => {
    expect([label(token("\n")), label(token("  ")), label(token("")), label(undefined), label(token("猫"))]).toEqual([
      "↵",
      "␣␣",
      "·",
      "·",
      "猫",
    ]);
    expect(label(token("incomprehensibilities"), 8)).toBe("incompr…");
  });

  it("runs as people read it", () => {
    expect(running(tokens).text).toBe("The unbelievable The\n");
  });

  it("is searched across pieces", () => {
    expect(find(tokens, "Unbelievable")).toEqual([{ first: 2, last: 4 }]);
    expect(find(tokens, "the")).toEqual([
      { first: 1, last: 1 },
      { first: 5, last: 5 },
    ]);
    expect(find(tokens, "[cls]")).toEqual([{ first: 0, last: 0 }]);
    expect(find(tokens, "  ")).toEqual([]);
    expect(find(tokens, "cat")).toEqual([]);
  });
});

describe("the address", () => {
  it("holds the selection and gives it back", () => {
    const selection = { stack: "encoder", layer: 3, head: 7, query: 4, key: 14 } as const;
    expect(readHash(writeHash(selection), overview)).toEqual(selection);
  });

  it("falls back on the opening where it makes no sense", () => {
    expect(readHash("", overview)).toEqual(overview.opening);
    expect(readHash("#stack=cross&layer=99&head=-1&query=1e3&key=15", overview)).toEqual(overview.opening);
  });
});

describe("a question that changes while it is asked", () => {
  it("is answered with the newest, skipping what nobody waits for", async () => {
    const question = signal<number | null>(1);
    const open: ((value: string) => void)[] = [];
    const load = vi.fn((asked: number) => new Promise<string>((done) => open.push(() => done(`answer ${asked}`))));
    const answers = resource(question, load);
    question.value = 2;
    question.value = 3;
    expect(load).toHaveBeenCalledTimes(1);
    open.shift()!("");
    await settle();
    expect(answers.answer.value?.value).toBe("answer 1");
    expect(answers.busy.value).toBe(true);
    open.shift()!("");
    await settle();
    expect(load.mock.calls.map(([asked]) => asked)).toEqual([1, 3]);
    expect(answers.answer.value).toEqual({ question: 3, value: "answer 3" });
    expect(answers.busy.value).toBe(false);
  });

  it("keeps the last answer when the server is gone, and says so", async () => {
    const question = signal<number | null>(1);
    const answers = resource(question, async (asked) => {
      if (asked === 2) throw new ConnectionError("the server does not answer");
      return asked;
    });
    await settle();
    question.value = 2;
    await settle();
    expect(answers.answer.value?.value).toBe(1);
    expect(answers.failure.value).toBe("the server does not answer");
    expect(disconnected.value).toBe(true);
    question.value = 3;
    await settle();
    expect(disconnected.value).toBe(false);
  });
});

describe("the server's answers", () => {
  const head = { stack: "decoder", layer: 3, head: 1 } as const;

  it("are asked for below the page and kept", async () => {
    const ask = vi.fn(
      async (_address: RequestInfo | URL) =>
        new Response(new Float32Array([0.5, 0.25]).buffer, { headers: { "x-qkv-header": '{"block":2}' } }),
    );
    const source = new ServerSource("api/", ask);
    const window = await source.window(head, [0, 8], [4, 8], 512);
    expect(ask.mock.calls[0]![0]).toBe("api/window?stack=decoder&layer=3&head=1&rows=0%3A8&columns=4%3A8&side=512");
    expect(window.header.block).toBe(2);
    expect([...window.values]).toEqual([0.5, 0.25]);
    expect(await source.window(head, [0, 8], [4, 8], 512)).toBe(window);
    expect(ask).toHaveBeenCalledTimes(1);
  });

  it("carry the server's own sentence when there is none, and are asked for again", async () => {
    const ask = vi.fn(async () => new Response('{"error":"layer 99 is not in the trace"}', { status: 404 }));
    const source = new ServerSource("api/", ask);
    await expect(source.head(head)).rejects.toThrow(new AnswerError("layer 99 is not in the trace"));
    await expect(source.head(head)).rejects.toThrow(AnswerError);
    expect(ask).toHaveBeenCalledTimes(2);
  });

  it("tell a silent server from a refusal", async () => {
    const source = new ServerSource("api/", async () => Promise.reject(new TypeError("Failed to fetch")));
    await expect(source.overview()).rejects.toThrow(ConnectionError);
  });
});

describe("the explorer", () => {
  const opened = async () => {
    const explorer = createExplorer(overview, new EmbeddedSource(embedded), overview.opening);
    await settle();
    return explorer;
  };

  it("opens on 'it' reading 'animal' with 0.64", async () => {
    const explorer = await opened();
    expect(explorer.pair.answer.value!.value.weight).toBeCloseTo(0.64, 2);
    expect(explorer.weights.value!.weights[2]).toBeCloseTo(0.64, 2);
  });

  it("takes a pointed word's row from the map, without a question", async () => {
    const explorer = await opened();
    explorer.pointed.value = { query: 6, key: null };
    expect(explorer.weights.value!.query).toBe(6);
    expect(explorer.row.answer.value).toBeNull();
  });

  it("moves pairs to the edge and no further, heads around", async () => {
    const explorer = await opened();
    explorer.movePair(-99, 99);
    expect(explorer.selection.value).toMatchObject({ query: 0, key: 14 });
    explorer.moveHead(1);
    expect(explorer.selection.value.head).toBe(2);
    explorer.moveHead(-3);
    expect(explorer.selection.value.head).toBe(11);
  });

  it("asks another query and takes its strongest reading as key", async () => {
    const explorer = await opened();
    await explorer.selectQuery(6);
    expect(explorer.selection.value).toMatchObject({ query: 6, key: 8 });
  });
});
