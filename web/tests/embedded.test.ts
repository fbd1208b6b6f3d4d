import { describe, expect, it } from "vitest";
import type { Embedded } from "../src/contract";
import { strongest } from "../src/explorer";
import { EmbeddedSource } from "../src/source/embedded";
import { AnswerError } from "../src/source/source";
import fixture from "./fixtures/minilm.json";

/** Layer 3, heads 0 and 1 of MiniLM reading "The animal didn't cross the street because it was too tired"; `expected` is computed apart, in double precision. */
const { expected, ...data } = fixture;
const embedded = data as unknown as Embedded;
const source = new EmbeddedSource(embedded);
const head = { stack: "encoder", layer: 3, head: 1 } as const;
const [it10, animal] = [10, 2];

describe("a self-contained page", () => {
  it("tells why 'it' reads 'animal'", async () => {
    const pair = await source.pair(head, it10, animal);
    expect(pair.dot).toBeCloseTo(expected.dot, 4);
    expect(pair.product).toHaveLength(32);
    expect(pair.product.reduce((sum, value) => sum + value, 0)).toBeCloseTo(pair.dot, 9);
    expect(pair.scaled).toBeCloseTo(expected.scaled, 4);
    expect(pair.bias).toBe(0);
    expect(pair.masked).toBe(false);
    expect(Math.exp(pair.score - pair.lse!)).toBeCloseTo(pair.weight, 5);
    expect(pair.weight).toBeCloseTo(0.64, 2);
  });

  it("gives rows that sum to 1, strongest keys first", async () => {
    const row = await source.row(head, it10);
    expect(row.weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 5);
    row.weights.forEach((weight, key) => expect(weight).toBeCloseTo(expected.row[key]!, 6));
    expect(row.links.slice(0, 3).map((link) => link.key)).toEqual(expected.strongest);
  });

  it("sums blocks over keys and averages them over queries", async () => {
    const { header, values } = await source.window(head, [0, 15], [0, 15], 4);
    expect(header).toMatchObject({ block: 4, height: 4, width: 4, row_stop: 15 });
    expected.blocks.flat().forEach((value, index) => expect(values[index]).toBeCloseTo(value, 5));
  });

  it("cuts windows exactly", async () => {
    const { header, values } = await source.window(head, [10, 12], [2, 5], 512);
    expect(header).toMatchObject({ block: 1, height: 2, width: 3, row_start: 10, column_start: 2 });
    expect(values[0]).toBeCloseTo(expected.row[2]!, 6);
    expect((await source.window(head, [14, 99], [0, 99], 512)).header).toMatchObject({ row_stop: 15, column_stop: 15 });
  });

  it("gives a head's marginals", async () => {
    const answer = await source.head(head);
    expect(answer.entropy).toHaveLength(15);
    expect(answer.received.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(15, 4);
    expect(answer.figures.entropy).toBeCloseTo(answer.entropy.reduce((sum, bits) => sum + bits, 0) / 15, 4);
  });

  it("chooses what arrives most, past the sink and the query itself", async () => {
    const { links } = await source.row(head, it10);
    expect(strongest(links, embedded.overview.sides[0]!, it10)).toBe(animal);
    expect(strongest([{ key: 0, weight: 1, value_norm: 1 }], embedded.overview.sides[0]!, 3)).toBe(0);
    expect(strongest([], embedded.overview.sides[0]!, 3)).toBeNull();
  });

  it("says what it does not hold", async () => {
    await expect(source.head({ ...head, layer: 9 })).rejects.toThrow(AnswerError);
    await expect(source.head({ ...head, head: 9 })).rejects.toThrow("this page holds no encoder layer 3 head 9");
    await expect(source.thumbnails("decoder")).rejects.toThrow("this page holds no decoder thumbnails");
    await expect(source.predictions(3)).rejects.toThrow("this page holds no predictions after position 3");
  });
});

describe("scores that are more than a scaled product", () => {
  const floats = (...values: number[]) => Buffer.from(new Float32Array(values).buffer).toString("base64");
  /** Two tokens, two query heads that share one key head; softcap 2, a bias of 0.5 on one pair, a mask on another. */
  const capped = 2 * Math.tanh(3 / 2);
  const lse = Math.log(Math.exp(capped) + Math.exp(capped + 0.5));
  const tiny = {
    ...embedded,
    overview: {
      ...embedded.overview,
      sides: [{ name: "input", tokens: embedded.overview.sides[0]!.tokens.slice(1, 3) }],
      stacks: [{ ...embedded.overview.stacks[0]!, layers: [0], heads: [0, 1], key_heads: 1, head_dim: 1, value_dim: 1 }],
    },
    layers: {
      encoder: [
        {
          layer: 0,
          scale: 1,
          softcap: 2,
          masked: true,
          query: floats(1, 1, 1, 1),
          key: floats(3, 3),
          weights: floats(1, 0, Math.exp(capped - lse), Math.exp(capped + 0.5 - lse), 0, 0, 1, 0),
          lse: floats(capped, lse, -Infinity, capped),
          entropy: floats(0, 0.95, 0, 0),
          received: floats(1, 1, 1, 0),
          value_norm: floats(2, 3),
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
    expect(await small.pair({ ...first, head: 1 }, 0, 0)).toMatchObject({ masked: true, weight: 0, lse: null, links: [] });
  });

  it("share key heads among query heads", async () => {
    expect((await small.pair({ ...first, head: 1 }, 1, 0)).key_vector).toEqual([3]);
  });
});
