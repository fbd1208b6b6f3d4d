import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Embedded, Window } from "../src/contract";
import { strongest } from "../src/explorer";
import { floatsOf } from "../src/source/binary";
import { EmbeddedSource } from "../src/source/embedded";
import { AnswerError } from "../src/source/source";
import derivationAnswer from "./fixtures/derivation.json";
import fixture from "./fixtures/embedded.json";
import headAnswer from "./fixtures/head.json";
import pairAnswer from "./fixtures/pair.json";
import rowAnswer from "./fixtures/row.json";
import blocksHeader from "./fixtures/window-blocks.json";
import windowHeader from "./fixtures/window.json";

/** Layer 3 of MiniLM reading "The animal didn't cross the street because it was too tired", and the server's own answers about it. */
const embedded = fixture as unknown as Embedded;
const source = new EmbeddedSource(embedded);
const head = { stack: "encoder", layer: 3, head: 1 } as const;
const [it10, animal] = [10, 2];

/** Equal names and texts; numbers equal within float32. */
function expectSame(found: unknown, wanted: unknown, place = "answer"): void {
  if (typeof wanted === "number") {
    expect(Math.abs((found as number) - wanted), `${place}: ${String(found)} is not ${wanted}`).toBeLessThanOrEqual(
      2e-5 * Math.max(1, Math.abs(wanted)),
    );
  } else if (wanted !== null && typeof wanted === "object") {
    expect(Object.keys(found as object).sort(), place).toEqual(Object.keys(wanted).sort());
    for (const [name, value] of Object.entries(wanted))
      expectSame((found as Record<string, unknown>)[name], value, `${place}.${name}`);
  } else expect(found, place).toEqual(wanted);
}

function values(name: string): Float32Array {
  const bytes = readFileSync(`tests/fixtures/${name}.f32`);
  return floatsOf(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

describe("a self-contained page answers as the server does", () => {
  it("a pair", async () => expectSame(await source.pair(head, it10, animal), pairAnswer));
  it("a row", async () => expectSame(await source.row(head, it10), rowAnswer));
  it("a head", async () => expectSame(await source.head(head), headAnswer));
  it("a derivation", async () => expectSame(await source.derivation("encoder", 3), derivationAnswer));

  it("a window, exact", async () => {
    const answer = await source.window(head, [0, 15], [0, 15], 512);
    expectSame(answer.header, windowHeader satisfies Window);
    expectSame([...answer.values], [...values("window")]);
  });

  it("a window of blocks, from another row on", async () => {
    const answer = await source.window(head, [1, 15], [0, 15], 4);
    expectSame(answer.header, blocksHeader);
    expectSame([...answer.values], [...values("window-blocks")]);
  });

  it("the layer's thumbnails", async () => {
    const { header, values: found } = await source.thumbnails("encoder");
    expect(header).toMatchObject({ layers: 1, heads: 12, height: 15, width: 15 });
    const layer = 12 * 15 * 15;
    expectSame([...found], [...values("thumbnails").subarray(3 * layer, 4 * layer)]);
  });
});

describe("a self-contained page", () => {
  it("tells why 'it' reads 'animal' with 0.64", async () => {
    const pair = await source.pair(head, it10, animal);
    expect(pair.product.reduce((sum, value) => sum + value, 0)).toBeCloseTo(pair.dot, 9);
    expect(pair.dot * pair.scale).toBeCloseTo(pair.score, 9);
    expect(Math.exp(pair.score - pair.lse!)).toBeCloseTo(pair.weight, 5);
    expect(pair.weight).toBeCloseTo(0.64, 2);
  });

  it("chooses what arrives most, past the sink and the query itself", async () => {
    const { links } = await source.row(head, it10);
    expect(strongest(links, embedded.overview.sides[0]!, it10)).toBe(animal);
    expect(strongest([{ key: 0, weight: 1, value_norm: 1 }], embedded.overview.sides[0]!, 3)).toBe(0);
    const itself = { key: 3, weight: 0.9, value_norm: 9 };
    expect(strongest([itself, { key: 5, weight: 0.1, value_norm: 1 }], embedded.overview.sides[0]!, 3)).toBe(5);
    expect(strongest([itself, { key: 5, weight: 0.1, value_norm: 1 }], embedded.overview.sides[0]!, null)).toBe(3);
    expect(strongest([], embedded.overview.sides[0]!, 3)).toBeNull();
  });

  it("says what it does not hold", async () => {
    await expect(source.head({ ...head, layer: 9 })).rejects.toThrow(AnswerError);
    await expect(source.head({ ...head, head: 12 })).rejects.toThrow("this page holds no encoder layer 3 head 12");
    await expect(source.thumbnails("decoder")).rejects.toThrow("this page holds no decoder thumbnails");
    await expect(source.predictions(3)).rejects.toThrow("this page holds no predictions after position 3");
  });
});

describe("scores that are more than a scaled product", () => {
  const floats = (...values: number[]) => Buffer.from(new Float32Array(values).buffer).toString("base64");
  /** Two tokens, two query heads that share one key head, which stands there for each of them; softcap 2, a bias of 0.5 on one pair, a mask on another. */
  const capped = 2 * Math.tanh(3 / 2);
  const lse = Math.log(Math.exp(capped) + Math.exp(capped + 0.5));
  const tiny = {
    ...embedded,
    overview: {
      ...embedded.overview,
      sides: [{ name: "input", tokens: embedded.overview.sides[0]!.tokens.slice(1, 3) }],
      stacks: [
        { ...embedded.overview.stacks[0]!, layers: [0], heads: [0, 1], key_heads: 1, head_dim: 1, value_dim: 1 },
      ],
    },
    layers: {
      encoder: [
        {
          layer: 0,
          scale: 1,
          softcap: 2,
          masked: true,
          query: floats(1, 1, 1, 1),
          key: floats(3, 3, 3, 3),
          weights: floats(1, 0, Math.exp(capped - lse), Math.exp(capped + 0.5 - lse), 0, 0, 1, 0),
          lse: floats(capped, lse, -Infinity, capped),
          entropy: floats(0, 0.95, 0, 0),
          received: floats(1, 1, 1, 0),
          value_norm: floats(2, 3, 2, 3),
          output_norm: floats(1, 1, 0, 1),
        },
      ],
    },
  } as unknown as Embedded;
  const small = new EmbeddedSource(tiny);
  const first = { stack: "encoder", layer: 0, head: 0 } as const;

  it("show the softcap and find the bias", async () => {
    const pair = await small.pair(first, 1, 1);
    expect(pair.scaled).toBe(3);
    expect(pair.capped).toBeCloseTo(capped, 6);
    expect(pair.bias).toBeCloseTo(0.5, 3);
    expect((await small.pair(first, 1, 0)).bias).toBe(0);
  });

  it("know a masked pair and a query that reads nothing", async () => {
    expect(await small.pair(first, 0, 1)).toMatchObject({ masked: true, weight: 0, bias: 0 });
    expect(await small.pair({ ...first, head: 1 }, 0, 0)).toMatchObject({
      masked: true,
      weight: 0,
      lse: null,
      links: [],
    });
  });

  it("show every head the keys and values that it reads", async () => {
    const pair = await small.pair({ ...first, head: 1 }, 1, 0);
    expect(pair.key_vector).toEqual([3]);
    expect(pair.bias).toBe(0);
    expect(pair.links).toEqual([{ key: 0, weight: 1, value_norm: 2 }]);
  });
});
