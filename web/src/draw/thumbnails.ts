/** Every head of a stack as a small map: layers down, heads across. */

import type { Thumbnails } from "../contract";
import type { Values } from "../source/source";
import { type Palette, type Theme, paintInk } from "./ink";
import type { Raster, Surface } from "./surface";

export interface Grid {
  readonly left: number;
  readonly top: number;
  /** From one thumbnail to the next. */
  readonly stepX: number;
  readonly stepY: number;
  readonly gap: number;
  readonly layers: number;
  readonly heads: number;
  readonly width: number;
  readonly height: number;
}

export function layoutGrid(width: number, layers: number, heads: number, tallest = 560): Grid {
  const left = 22;
  const top = 18;
  const stepX = Math.min(34, (width - left) / heads);
  const stepY = Math.min(stepX, Math.max(9, (tallest - top) / layers));
  return {
    left,
    top,
    stepX,
    stepY,
    gap: stepX >= 12 ? 1 : 0.5,
    layers,
    heads,
    width,
    height: Math.ceil(top + layers * stepY + 2),
  };
}

/** The head under a point, by its places in the grid. */
export function headAt(grid: Grid, x: number, y: number): { layer: number; head: number } | null {
  const layer = Math.floor((y - grid.top) / grid.stepY);
  const head = Math.floor((x - grid.left) / grid.stepX);
  return layer >= 0 && layer < grid.layers && head >= 0 && head < grid.heads ? { layer, head } : null;
}

export interface GridPicture {
  readonly grid: Grid;
  readonly values: Values<Thumbnails> | null;
  readonly layerNames: readonly number[];
  readonly headNames: readonly number[];
  readonly selected: { readonly layer: number; readonly head: number } | null;
  readonly pointed: { readonly layer: number; readonly head: number } | null;
  readonly palette: Palette;
}

const SIZE = 10;

export function drawGrid(surface: Surface, picture: GridPicture): void {
  const { grid, values, palette, selected, pointed } = picture;
  const now = pointed ?? selected;
  const everyHead = Math.ceil(13.5 / grid.stepX);
  const everyLayer = Math.ceil(12 / grid.stepY);
  picture.headNames.forEach((name, head) => {
    const marked = now?.head === head;
    if (!marked && (head % everyHead !== 0 || (everyHead > 1 && now !== null && Math.abs(now.head - head) < everyHead)))
      return;
    surface.text(grid.left + (head + 0.5) * grid.stepX, 8, String(name), {
      fill: marked ? palette.text : palette.soft,
      size: SIZE,
      bold: marked,
      align: "center",
    });
  });
  picture.layerNames.forEach((name, layer) => {
    const marked = now?.layer === layer;
    if (
      !marked &&
      (layer % everyLayer !== 0 || (everyLayer > 1 && now !== null && Math.abs(now.layer - layer) < everyLayer))
    )
      return;
    surface.text(grid.left - 7, grid.top + (layer + 0.5) * grid.stepY, String(name), {
      fill: marked ? palette.text : palette.soft,
      size: SIZE,
      bold: marked,
      align: "right",
    });
  });
  for (let layer = 0; layer < grid.layers; layer++) {
    for (let head = 0; head < grid.heads; head++) {
      const [x, y, width, height] = boxOf(grid, layer, head);
      if (values !== null) surface.image(rasterOf(values, layer, head, palette), x, y, width, height);
      surface.frame(x, y, width, height, palette.hairline, 0.5);
    }
  }
  for (const [place, thickness] of [
    [pointed, 1],
    [selected, 2],
  ] as const) {
    if (place === null) continue;
    const [x, y, width, height] = boxOf(grid, place.layer, place.head);
    surface.frame(x - 1, y - 1, width + 2, height + 2, palette.text, thickness, 2);
  }
}

function boxOf(grid: Grid, layer: number, head: number): [number, number, number, number] {
  return [
    grid.left + head * grid.stepX + grid.gap / 2,
    grid.top + layer * grid.stepY + grid.gap / 2,
    grid.stepX - grid.gap,
    grid.stepY - grid.gap,
  ];
}

const rasters = new WeakMap<Values<Thumbnails>, Partial<Record<Theme, Raster[]>>>();

function rasterOf(thumbnails: Values<Thumbnails>, layer: number, head: number, palette: Palette): Raster {
  let byTheme = rasters.get(thumbnails);
  if (byTheme === undefined) rasters.set(thumbnails, (byTheme = {}));
  const made = (byTheme[palette.theme] ??= []);
  const { heads, height, width } = thumbnails.header;
  const index = layer * heads + head;
  return (made[index] ??= {
    width,
    height,
    pixels: paintInk(thumbnails.values.subarray(index * height * width, (index + 1) * height * width), palette),
  });
}
