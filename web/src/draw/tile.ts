/** Rectangles of a head's map: a cell may stand for a block of tokens, and several tiles may lie on each other. */

import type { Thumbnails, Window } from "../contract";
import type { Span, Values } from "../source/source";
import { type Palette, type Theme, paintInk } from "./ink";
import type { Raster } from "./surface";

export interface Tile {
  readonly rowStart: number;
  readonly columnStart: number;
  /** Tokens a cell stands for; a fraction only in a preview. */
  readonly rowBlock: number;
  readonly columnBlock: number;
  readonly height: number;
  readonly width: number;
  readonly values: Float32Array;
}

export function tileOf({ header, values }: Values<Window>): Tile {
  return {
    rowStart: header.row_start,
    columnStart: header.column_start,
    rowBlock: header.block,
    columnBlock: header.block,
    height: header.height,
    width: header.width,
    values,
  };
}

/** A thumbnail drawn over the whole map. */
export function previewTile(
  { header, values }: Values<Thumbnails>,
  layer: number,
  head: number,
  rows: number,
  columns: number,
): Tile {
  const { height, width } = header;
  const start = (layer * header.heads + head) * height * width;
  return {
    rowStart: 0,
    columnStart: 0,
    rowBlock: rows / height,
    columnBlock: columns / width,
    height,
    width,
    values: values.subarray(start, start + height * width),
  };
}

/** The value of the cell that holds a pair, or null where the tile does not reach. */
export function valueAt(tile: Tile, query: number, key: number): number | null {
  const row = Math.floor((query - tile.rowStart) / tile.rowBlock);
  const column = Math.floor((key - tile.columnStart) / tile.columnBlock);
  if (row < 0 || column < 0 || row >= tile.height || column >= tile.width) return null;
  return tile.values[row * tile.width + column]!;
}

export function isExact(tile: Tile): boolean {
  return tile.rowBlock === 1 && tile.columnBlock === 1;
}

export function covers(tile: Tile, rows: Span, columns: Span): boolean {
  return (
    tile.rowStart <= rows[0] &&
    tile.columnStart <= columns[0] &&
    tile.rowStart + tile.height * tile.rowBlock >= rows[1] &&
    tile.columnStart + tile.width * tile.columnBlock >= columns[1]
  );
}

const rasters = new WeakMap<Tile, Partial<Record<Theme, Raster>>>();

export function rasterOf(tile: Tile, palette: Palette): Raster {
  let made = rasters.get(tile);
  if (made === undefined) rasters.set(tile, (made = {}));
  return (made[palette.theme] ??= { width: tile.width, height: tile.height, pixels: paintInk(tile.values, palette) });
}

/**
 * The rectangle worth asking for when these tokens are seen: a quarter more on every side, on round numbers, so that a
 * small move needs nothing new.
 */
export function around(seen: Span, length: number): Span {
  const size = seen[1] - seen[0];
  const grid = 2 ** Math.max(4, Math.ceil(Math.log2(Math.max(1, size))) - 2);
  const start = Math.floor((seen[0] - size / 4) / grid) * grid;
  const stop = Math.ceil((seen[1] + size / 4) / grid) * grid;
  return [Math.max(0, start), Math.min(length, stop)];
}
