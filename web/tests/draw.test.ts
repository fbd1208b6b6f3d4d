import { describe, expect, it } from "vitest";
import { PALETTES, contrast, css, inkColour, inkOf, paintInk, parseHex, readableOn } from "../src/draw/ink";
import { dimensionAt, drawColumns, layoutColumns } from "../src/draw/columns";
import { drawGrid, headAt, layoutGrid } from "../src/draw/thumbnails";
import { SvgSurface } from "../src/draw/surface";
import { pair } from "./fixtures/pair";

const { light, dark } = PALETTES;

describe("ink", () => {
  it("is the weight to the power 0.6", () => {
    expect(inkOf(0)).toBe(0);
    expect(inkOf(0.5)).toBeCloseTo(0.5 ** 0.6, 12);
    expect(inkOf(1)).toBe(1);
    expect(inkOf(1.0000001)).toBe(1);
  });

  it("runs from paper to violet", () => {
    for (const palette of [light, dark]) {
      expect(inkColour(0, palette)).toEqual(parseHex(palette.paper));
      expect(inkColour(1, palette)).toEqual(parseHex(palette.weight));
    }
  });

  it("shows a hundredth", () => {
    expect(css(inkColour(0.01, light))).not.toBe(css(inkColour(0, light)));
    expect(contrast(inkColour(0.01, light), parseHex(light.paper))).toBeGreaterThan(1.05);
  });

  it("paints pixels as it colours cells", () => {
    const pixels = paintInk(Float32Array.of(0, 1, 0.25), dark);
    expect([...pixels.subarray(0, 4)]).toEqual([...parseHex(dark.paper), 255]);
    expect([...pixels.subarray(4, 8)]).toEqual([...parseHex(dark.weight), 255]);
    inkColour(0.25, dark).forEach((channel, index) =>
      expect(Math.abs(pixels[8 + index]! - channel)).toBeLessThanOrEqual(1),
    );
  });
});

describe("contrast", () => {
  const words = ["text", "soft", "queryText", "keyText", "valueText", "weight"] as const;
  it.each([light, dark].flatMap((palette) => words.map((word) => [palette.theme, word, palette] as const)))(
    "%s %s is readable on paper",
    (_theme, word, palette) => {
      expect(contrast(parseHex(palette[word]), parseHex(palette.paper))).toBeGreaterThanOrEqual(4.5);
    },
  );

  it("keeps numbers readable on every ink", () => {
    for (const palette of [light, dark]) {
      for (let weight = 0; weight <= 1; weight += 0.01) {
        const background = inkColour(weight, palette);
        expect(contrast(parseHex(readableOn(background, palette)), background)).toBeGreaterThan(3.9);
      }
    }
  });
});

describe("all heads", () => {
  it("fit the column, from 6 x 12 to 30 x 9 and 32 x 32", () => {
    for (const [layers, heads] of [
      [6, 12],
      [30, 9],
      [32, 32],
    ] as const) {
      const grid = layoutGrid(216, layers, heads);
      expect(grid.left + heads * grid.stepX).toBeLessThanOrEqual(216.001);
      expect(grid.height).toBeLessThan(600);
      expect(headAt(grid, grid.left + (heads - 0.5) * grid.stepX, grid.top + (layers - 0.5) * grid.stepY)).toEqual({
        layer: layers - 1,
        head: heads - 1,
      });
    }
    expect(headAt(layoutGrid(216, 6, 12), 2, 2)).toBeNull();
  });

  it("are named by the model's own indices, the chosen one framed", () => {
    const surface = new SvgSurface(() => "data:,");
    const grid = layoutGrid(216, 2, 3);
    drawGrid(surface, {
      grid,
      values: null,
      layerNames: [4, 9],
      headNames: [1, 5, 7],
      selected: { layer: 1, head: 2 },
      pointed: null,
      palette: light,
    });
    const svg = surface.toString(grid.width, grid.height, light.paper);
    for (const name of ["4", "9", "1", "5", "7"]) expect(svg).toContain(`>${name}</text>`);
    expect(svg.match(/stroke-width="2"/g)).toHaveLength(1);
  });
});

describe("columns", () => {
  it("draw a bar a dimension in three columns", () => {
    const surface = new SvgSurface();
    const layout = layoutColumns(300, pair.product.length);
    drawColumns(surface, { layout, pair, query: "it", key: "<animal>", pointed: null, palette: light });
    const svg = surface.toString(layout.width, layout.height, light.paper);
    expect(svg.match(new RegExp(`fill="${light.query}"`, "g"))!.length).toBe(pair.query_vector.length + 1);
    expect(svg).toContain("k · &#60;animal&#62;");
    expect(svg).not.toContain("<animal>");
  });

  it("know the dimension under a point", () => {
    const layout = layoutColumns(300, 32);
    expect(dimensionAt(layout, layout.top + layout.rowHeight * 31.5)).toBe(31);
    expect(dimensionAt(layout, layout.top + layout.rowHeight * 32.5)).toBeNull();
  });

  it("have room for every head size", () => {
    for (const dim of [8, 32, 64, 128, 256]) expect(layoutColumns(300, dim).height).toBeLessThan(560);
  });
});
