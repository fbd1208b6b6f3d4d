/** A head's map with its axes and marginals: query down, key across, entropy at the right, weight received below. */

import { cellWeight } from "../format";
import { type Camera, CELLS, LABEL_ANGLE, type MapLayout, NUMBERS, seenColumns, seenRows, xOf, yOf } from "./camera";
import { type Palette, css, inkColour, mix, parseHex, readableOn } from "./ink";
import type { Surface } from "./surface";
import { type Tile, isExact, covers, rasterOf, valueAt } from "./tile";

export interface MapPicture {
  readonly layout: MapLayout;
  readonly camera: Camera;
  /** From coarse to fine. */
  readonly tiles: readonly Tile[];
  readonly rowLabels: (row: number) => string;
  readonly columnLabels: (column: number) => string;
  readonly entropy: ArrayLike<number> | null;
  readonly received: ArrayLike<number> | null;
  readonly selected: { readonly query: number; readonly key: number };
  readonly pointed: { readonly query: number | null; readonly key: number | null };
  /** Pairs that can never be read are left as paper. */
  readonly masked: (query: number, key: number) => boolean;
  readonly palette: Palette;
}

export const LABEL_SIZE = 12;
const SMALL = 10.5;
/** Cells show their number from this weight on; when they are large, from the lesser one. */
const STRONG = 0.3;
const WORTH_READING = 0.01;
const LARGE = 36;

export function drawMap(surface: Surface, picture: MapPicture): void {
  const { layout, camera } = picture;
  const { plot } = layout;
  const inCells = Math.min(camera.rowScale, camera.columnScale) >= CELLS;
  const exact = picture.tiles.find(
    (tile) => isExact(tile) && covers(tile, seenRows(camera, layout), seenColumns(camera, layout)),
  );
  surface.clip(plot.x - 2, plot.y - 2, plot.width + 4, plot.height + 4, () => {
    if (inCells && exact !== undefined) drawCells(surface, picture, exact);
    else drawRasters(surface, picture);
  });
  surface.clip(plot.x - 7, plot.y - 7, plot.width + 14, plot.height + 14, () => drawMarks(surface, picture, inCells));
  drawRowAxis(surface, picture);
  drawColumnAxis(surface, picture);
  if (picture.entropy !== null) drawEntropy(surface, picture, picture.entropy);
  if (picture.received !== null) drawReceived(surface, picture, picture.received);
}

function drawCells(surface: Surface, picture: MapPicture, tile: Tile): void {
  const { layout, camera, palette } = picture;
  const [firstRow, lastRow] = seenRows(camera, layout);
  const [firstColumn, lastColumn] = seenColumns(camera, layout);
  const size = Math.min(camera.rowScale, camera.columnScale);
  const gap = size >= 18 ? 1 : 0.5;
  const radius = Math.min(3, camera.columnScale / 8);
  const least = size < NUMBERS ? Infinity : size < LARGE ? STRONG : WORTH_READING;
  const empty = css(mix(parseHex(palette.paper), parseHex(palette.text), 0.022));
  for (let row = firstRow; row < lastRow; row++) {
    for (let column = firstColumn; column < lastColumn; column++) {
      if (picture.masked(row, column)) continue;
      const weight = valueAt(tile, row, column) ?? 0;
      const colour = inkColour(weight, palette);
      const x = xOf(camera, layout, column) + gap;
      const y = yOf(camera, layout, row) + gap;
      const width = camera.columnScale - 2 * gap;
      const height = camera.rowScale - 2 * gap;
      surface.rect(x, y, width, height, weight < 0.002 ? empty : css(colour), radius);
      if (weight >= least) {
        surface.text(x + width / 2, y + height / 2 + 0.5, cellWeight(weight), {
          fill: readableOn(colour, palette),
          size: 10.5,
          align: "center",
        });
      }
    }
  }
}

function drawRasters(surface: Surface, { layout, camera, tiles, palette }: MapPicture): void {
  for (const tile of tiles) {
    surface.image(
      rasterOf(tile, palette),
      xOf(camera, layout, tile.columnStart),
      yOf(camera, layout, tile.rowStart),
      tile.width * tile.columnBlock * camera.columnScale,
      tile.height * tile.rowBlock * camera.rowScale,
    );
  }
  const { plot } = layout;
  // Blocks at the end may stand for fewer tokens than they are drawn for.
  const right = xOf(camera, layout, layout.columns);
  const bottom = yOf(camera, layout, layout.rows);
  if (right < plot.x + plot.width + 2)
    surface.rect(right, plot.y - 2, plot.x + plot.width + 2 - right, plot.height + 4, palette.paper);
  if (bottom < plot.y + plot.height + 2)
    surface.rect(plot.x - 2, bottom, plot.width + 4, plot.y + plot.height + 2 - bottom, palette.paper);
  surface.frame(plot.x - 0.5, plot.y - 0.5, plot.width + 1, plot.height + 1, palette.hairline, 1);
}

/** The frame around the chosen pair; on a distant map, hairs from the axes and a small frame that can be seen. */
function drawMarks(surface: Surface, picture: MapPicture, inCells: boolean): void {
  const { layout, camera, palette, selected, pointed } = picture;
  const { plot } = layout;
  const box = (query: number, key: number, least: number) => {
    const width = Math.max(least, camera.columnScale);
    const height = Math.max(least, camera.rowScale);
    return [
      xOf(camera, layout, key + 0.5) - width / 2,
      yOf(camera, layout, query + 0.5) - height / 2,
      width,
      height,
    ] as const;
  };
  if (!inCells) {
    const y = yOf(camera, layout, selected.query + 0.5);
    const x = xOf(camera, layout, selected.key + 0.5);
    const [, , width, height] = box(selected.query, selected.key, 9);
    surface.line(plot.x, y, x - width / 2, y, palette.query);
    surface.line(x + width / 2, y, plot.x + plot.width, y, fade(palette.query, palette, 0.3));
    surface.line(x, plot.y + plot.height, x, y + height / 2, palette.key);
    surface.line(x, y - height / 2, x, plot.y, fade(palette.key, palette, 0.3));
  }
  const [x, y, width, height] = box(selected.query, selected.key, 9);
  surface.frame(x, y, width, height, palette.text, 2, inCells ? 4 : 2);
  if (pointed.query !== null && pointed.key !== null) {
    const [px, py, pw, ph] = box(pointed.query, pointed.key, 5);
    surface.frame(px + 0.5, py + 0.5, pw - 1, ph - 1, palette.text, 1, inCells ? 3 : 1);
  }
}

function fade(colour: string, palette: Palette, share: number): string {
  return css(mix(parseHex(palette.paper), parseHex(colour), share));
}

/** Least room between two positions on an axis, in pixels. */
const TICK_ROOM = 44;
/** Least room between a position and a marked word. */
const MARK_ROOM = 26;

/** The tokens to label: all where there is room for their names, else round positions that keep clear of the marked ones. */
export function ticks(
  first: number,
  last: number,
  scale: number,
  marked: readonly number[],
): { positions: number[]; words: boolean } {
  const words = scale >= CELLS;
  const step = words ? 1 : roundStep(TICK_ROOM / scale);
  const positions: number[] = [];
  for (let at = Math.ceil(first / step) * step; at < last; at += step) positions.push(at);
  const clear = (at: number) =>
    marked.every((other) => (words ? other !== at : Math.abs(other - at) * scale > MARK_ROOM));
  return { positions: positions.filter(clear), words };
}

/** The smallest of 1, 2, 5, 10, 20, ... that is not less. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? 10 * power;
}

function drawRowAxis(surface: Surface, picture: MapPicture): void {
  const { layout, camera, palette, selected, pointed } = picture;
  const [first, last] = seenRows(camera, layout);
  const marked = inside([selected.query, pointed.query], first, last);
  const { positions, words } = ticks(first, last, camera.rowScale, marked);
  const write = (row: number, text: string, style: { fill: string; size: number; bold: boolean }) => {
    const y = yOf(camera, layout, row + 0.5);
    if (y < layout.plot.y - 1 || y > layout.plot.y + layout.plot.height + 1) return;
    surface.text(layout.plot.x - 8, y, text, { ...style, align: "right" });
  };
  const quiet = {
    fill: palette.soft,
    size: words && camera.rowScale >= LABEL_SIZE + 3 ? LABEL_SIZE : SMALL,
    bold: false,
  };
  for (const row of positions) write(row, words ? picture.rowLabels(row) : String(row), quiet);
  for (const row of marked)
    write(row, picture.rowLabels(row), { fill: palette.queryText, size: LABEL_SIZE, bold: true });
}

function drawColumnAxis(surface: Surface, picture: MapPicture): void {
  const { layout, camera, palette, selected, pointed } = picture;
  const [first, last] = seenColumns(camera, layout);
  const marked = inside([selected.key, pointed.key], first, last);
  const { positions, words } = ticks(first, last, camera.columnScale, marked);
  const write = (column: number, text: string, style: { fill: string; size: number; bold: boolean }) => {
    const x = xOf(camera, layout, column + 0.5);
    if (x < layout.plot.x - 1 || x > layout.plot.x + layout.plot.width + 1) return;
    surface.text(x - 1, layout.plot.y - 8, text, { ...style, rotate: LABEL_ANGLE });
  };
  const quiet = {
    fill: palette.soft,
    size: words && camera.columnScale >= LABEL_SIZE + 3 ? LABEL_SIZE : SMALL,
    bold: false,
  };
  for (const column of positions) write(column, words ? picture.columnLabels(column) : String(column), quiet);
  for (const column of marked)
    write(column, picture.columnLabels(column), { fill: palette.keyText, size: LABEL_SIZE, bold: true });
}

function inside(candidates: readonly (number | null)[], first: number, last: number): number[] {
  return [...new Set(candidates)].filter((at): at is number => at !== null && at >= first && at < last);
}

/** One bar a token where there is room, else one a pixel, as long as the largest of its tokens. */
function bars(
  values: ArrayLike<number>,
  first: number,
  last: number,
  scale: number,
  draw: (from: number, size: number, value: number, token: number | null) => void,
): void {
  if (scale >= 3) {
    for (let token = first; token < last; token++) draw(token, 1, values[token]!, token);
    return;
  }
  const step = 1 / scale;
  for (let from = first; from < last; from += step) {
    let largest = 0;
    for (let token = Math.floor(from); token < Math.min(last, from + step); token++)
      largest = Math.max(largest, values[token]!);
    draw(from, step, largest, null);
  }
}

function largestOf(values: ArrayLike<number>): number {
  let largest = 0;
  for (let index = 0; index < values.length; index++) if (values[index]! > largest) largest = values[index]!;
  return largest > 0 ? largest : 1;
}

/** From this many tokens on, a few that are read by all would leave no length for the others. */
const MANY = 100;

/**
 * What a full bar stands for: the largest value, or, among many, a little more than all but the largest hundredth. Longer
 * bars are cut, and show it.
 */
export function fullBar(values: ArrayLike<number>): number {
  if (values.length < MANY) return largestOf(values);
  const sorted = Float64Array.from(values).sort();
  const usual = 1.25 * sorted[Math.floor(sorted.length * 0.99)]!;
  return usual > 0 ? Math.min(usual, sorted[sorted.length - 1]!) : largestOf(values);
}

function drawEntropy(surface: Surface, picture: MapPicture, entropy: ArrayLike<number>): void {
  const { layout, camera, palette, selected, pointed } = picture;
  const { plot } = layout;
  const [first, last] = seenRows(camera, layout);
  const largest = largestOf(entropy);
  const pale = fade(palette.query, palette, palette.theme === "dark" ? 0.4 : 0.36);
  const marked = pointed.query ?? selected.query;
  const room = layout.right - 12;
  surface.clip(plot.x + plot.width, plot.y, layout.right, plot.height, () => {
    bars(entropy, first, last, camera.rowScale, (from, size, value, token) => {
      const span = size * camera.rowScale;
      const thickness = span >= 3 ? Math.min(7, span * 0.6) : span;
      const y = yOf(camera, layout, from) + (span - thickness) / 2;
      surface.rect(
        plot.x + plot.width + 10,
        y,
        Math.max(1, (room * value) / largest),
        thickness,
        token === marked ? palette.query : pale,
        radiusOf(thickness),
      );
    });
  });
}

function drawReceived(surface: Surface, picture: MapPicture, received: ArrayLike<number>): void {
  const { layout, camera, palette, selected, pointed } = picture;
  const { plot } = layout;
  const [first, last] = seenColumns(camera, layout);
  const full = fullBar(received);
  const pale = fade(palette.key, palette, palette.theme === "dark" ? 0.38 : 0.36);
  const marked = pointed.key ?? selected.key;
  const room = layout.below - 12;
  surface.clip(plot.x, plot.y + plot.height, plot.width, layout.below, () => {
    bars(received, first, last, camera.columnScale, (from, size, value, token) => {
      const span = size * camera.columnScale;
      const thickness = span >= 3 ? Math.min(9, span * 0.6) : span;
      const x = xOf(camera, layout, from) + (span - thickness) / 2;
      const length = Math.max(1, room * Math.min(1, value / full));
      surface.rect(
        x,
        plot.y + plot.height + 10,
        thickness,
        length,
        token === marked ? palette.key : pale,
        radiusOf(thickness),
      );
      if (value > full * 1.001)
        surface.rect(x - 1, plot.y + plot.height + 10 + length - 8, thickness + 2, 2, palette.paper);
    });
  });
}

function radiusOf(thickness: number): number {
  return thickness >= 3 ? Math.min(1.5, thickness / 3) : 0;
}
