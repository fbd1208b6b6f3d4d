import { describe, expect, it } from "vitest";
import {
  clampCamera,
  closeUp,
  columnAt,
  isWhole,
  layoutMap,
  panBy,
  reveal,
  rowAt,
  seenRows,
  wholeCamera,
  xOf,
  yOf,
  zoomAt,
} from "../src/draw/camera";
import { PALETTES } from "../src/draw/ink";
import { drawMap, fullBar, ticks } from "../src/draw/map";
import { SvgSurface } from "../src/draw/surface";
import { type Tile, around, covers, valueAt } from "../src/draw/tile";

const room = { width: 740, tallest: 700, rowLabel: 60, columnLabel: 60, narrow: false };
const short = layoutMap({ ...room, rows: 15, columns: 15 });
const long = layoutMap({ ...room, rows: 4000, columns: 4000 });

describe("layout", () => {
  it("gives a short text comfortable square cells", () => {
    expect(short.fitRow).toBeCloseTo(31, 0);
    expect(short.fitRow).toBeCloseTo(short.fitColumn, 6);
  });

  it("keeps everything inside the room", () => {
    for (const layout of [short, long, layoutMap({ ...room, width: 340, narrow: true, rows: 60, columns: 60 })]) {
      expect(layout.plot.x).toBeGreaterThanOrEqual(0);
      expect(layout.plot.x + layout.plot.width + layout.right).toBeLessThanOrEqual(layout.width + 1);
      expect(layout.plot.y + layout.plot.height + layout.below).toBeLessThanOrEqual(layout.height + 1);
    }
  });

  it("stretches the short axis of very unlike texts", () => {
    const cross = layoutMap({ ...room, rows: 12, columns: 1500 });
    expect(cross.plot.height).toBeGreaterThan(300);
    expect(cross.plot.width).toBeGreaterThan(400);
  });
});

describe("camera", () => {
  it("starts with the whole map and never leaves it", () => {
    const whole = wholeCamera(long);
    expect(isWhole(whole, long)).toBe(true);
    expect(seenRows(whole, long)).toEqual([0, 4000]);
    expect(panBy(whole, long, 500, -500)).toEqual(whole);
    expect(clampCamera({ ...whole, rowScale: 0.0001, columnScale: 0.0001, row: -9, column: 9e9 }, long)).toEqual(whole);
  });

  it("zooms about the pointer", () => {
    const before = wholeCamera(long);
    const [x, y] = [long.plot.x + 300, long.plot.y + 200];
    const after = zoomAt(before, long, x, y, 7);
    expect(rowAt(after, long, y)).toBeCloseTo(rowAt(before, long, y), 6);
    expect(columnAt(after, long, x)).toBeCloseTo(columnAt(before, long, x), 6);
  });

  it("ends where single tokens can be read", () => {
    let camera = wholeCamera(long);
    for (let step = 0; step < 50; step++) camera = zoomAt(camera, long, long.plot.x + 100, long.plot.y + 100, 2);
    expect(camera.rowScale).toBeGreaterThanOrEqual(25);
    expect(seenRows(camera, long)[1] - seenRows(camera, long)[0]).toBeLessThan(30);
  });

  it("goes to a pair and keeps it in view", () => {
    const camera = closeUp(long, 1234, 87);
    expect(seenRows(camera, long)[0]).toBeLessThan(1234);
    expect(seenRows(camera, long)[1]).toBeGreaterThan(1235);
    expect(reveal(camera, long, 1234, 87)).toEqual(camera);
    const moved = reveal(camera, long, 1300, 0);
    expect(yOf(moved, long, 1301)).toBeLessThanOrEqual(long.plot.y + long.plot.height + 0.01);
    expect(xOf(moved, long, 0)).toBeGreaterThanOrEqual(long.plot.x - 0.01);
  });
});

describe("tiles", () => {
  const tile: Tile = {
    rowStart: 8,
    columnStart: 4,
    rowBlock: 2,
    columnBlock: 2,
    height: 2,
    width: 3,
    values: Float32Array.of(1, 2, 3, 4, 5, 6),
  };

  it("know the cell of a pair", () => {
    expect(valueAt(tile, 8, 4)).toBe(1);
    expect(valueAt(tile, 11, 9)).toBe(6);
    expect(valueAt(tile, 7, 4)).toBeNull();
    expect(valueAt(tile, 8, 10)).toBeNull();
    expect(covers(tile, [8, 12], [4, 10])).toBe(true);
    expect(covers(tile, [8, 13], [4, 10])).toBe(false);
  });

  it("are asked for with room around and stay the same for a small move", () => {
    expect(around([0, 4000], 4000)).toEqual([0, 4000]);
    const [start, stop] = around([1000, 1100], 4000);
    expect(start).toBeLessThanOrEqual(975);
    expect(stop).toBeGreaterThanOrEqual(1125);
    expect(around([1001, 1101], 4000)).toEqual([start, stop]);
  });
});

describe("axes", () => {
  it("name every token where there is room", () => {
    expect(ticks(3, 7, 20, [5])).toEqual({ positions: [3, 4, 6], words: true });
  });

  it("else name round positions, clear of the marked one", () => {
    const { positions, words } = ticks(0, 4000, 0.15, [500]);
    expect(words).toBe(false);
    expect(positions).not.toContain(500);
    expect(positions.every((at) => at % 500 === 0)).toBe(true);
  });
});

describe("the map as a picture", () => {
  const tile: Tile = {
    rowStart: 0,
    columnStart: 0,
    rowBlock: 1,
    columnBlock: 1,
    height: 3,
    width: 3,
    values: Float32Array.of(1, 0, 0, 0.4, 0.6, 0, 0.29, 0.01, 0.7),
  };
  const layout = layoutMap({ ...room, rows: 3, columns: 3 });
  const svg = (masked: (query: number, key: number) => boolean) => {
    const surface = new SvgSurface();
    const label = (index: number) => ["a & b", "it", "‹c›"][index]!;
    drawMap(surface, {
      layout,
      camera: wholeCamera(layout),
      tiles: [tile],
      rowLabels: label,
      columnLabels: label,
      entropy: [0, 0.97, 0.9],
      received: [1.69, 0.61, 0.7],
      selected: { query: 1, key: 0 },
      pointed: { query: null, key: null },
      masked,
      palette: PALETTES.light,
    });
    return surface.toString(layout.width, layout.height, PALETTES.light.paper);
  };

  it("writes numbers into strong cells only", () => {
    const text = svg(() => false);
    for (const number of [">1<", ">.40<", ">.60<", ">.70<"]) expect(text).toContain(number);
    expect(text).not.toContain(">.29<");
  });

  it("leaves masked pairs as paper", () => {
    const cells = (text: string) => text.match(/<rect/g)!.length;
    expect(cells(svg(() => false)) - cells(svg((query, key) => key > query))).toBe(3);
  });

  it("marks the chosen words and escapes them all", () => {
    const text = svg(() => false);
    expect(text).toContain(`fill="${PALETTES.light.queryText}"`);
    expect(text).toContain(`fill="${PALETTES.light.keyText}"`);
    expect(text).toContain("a &#38; b");
  });
});

describe("the weight received", () => {
  it("is drawn to the largest of a few, and to what is usual among many", () => {
    expect(fullBar([8, 1, 0.5])).toBe(8);
    const many = Array.from({ length: 400 }, (_, index) => (index === 0 ? 300 : 1));
    expect(fullBar(many)).toBe(1.25);
    expect(fullBar(Array.from({ length: 400 }, () => 0))).toBe(1);
  });
});
