/** A query, a key and their product, dimension by dimension, as three columns of bars around zero. */

import type { Pair } from "../contract";
import type { Palette } from "./ink";
import type { Surface } from "./surface";

export interface ColumnsLayout {
  readonly width: number;
  readonly height: number;
  readonly top: number;
  readonly rowHeight: number;
  readonly dimensions: number;
}

export function layoutColumns(width: number, dimensions: number): ColumnsLayout {
  const top = 22;
  const rowHeight = Math.max(2, Math.min(8.4, 270 / dimensions));
  return { width, height: Math.ceil(top + rowHeight * dimensions + 4), top, rowHeight, dimensions };
}

/** Characters of a word that fit over a column, after "q · ". */
export function titleLength(layout: ColumnsLayout): number {
  return Math.max(3, Math.floor(layout.width / 3 / 6.8) - 4);
}

export function dimensionAt(layout: ColumnsLayout, y: number): number | null {
  const index = Math.floor((y - layout.top) / layout.rowHeight);
  return index >= 0 && index < layout.dimensions ? index : null;
}

export interface ColumnsPicture {
  readonly layout: ColumnsLayout;
  readonly pair: Pair;
  readonly query: string;
  readonly key: string;
  readonly pointed: number | null;
  readonly palette: Palette;
}

export function drawColumns(surface: Surface, { layout, pair, query, key, pointed, palette }: ColumnsPicture): void {
  const third = layout.width / 3;
  const columns = [
    {
      title: `q · ${query}`,
      values: pair.query_vector,
      fill: palette.query,
      below: palette.query,
      text: palette.queryText,
    },
    { title: `k · ${key}`, values: pair.key_vector, fill: palette.key, below: palette.key, text: palette.keyText },
    // What speaks against is grey: it takes from the sum.
    { title: "q × k", values: pair.product, fill: palette.weight, below: palette.soft, text: palette.text },
  ];
  if (pointed !== null) {
    surface.rect(0, layout.top + pointed * layout.rowHeight, layout.width, layout.rowHeight, palette.hairline);
  }
  columns.forEach(({ title, values, fill, below, text }, index) => {
    const middle = third * (index + 0.5);
    const most = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) || 1;
    const reach = third / 2 - 6;
    surface.text(middle, 8, title, { fill: text, size: 11, align: "center" });
    surface.line(middle, layout.top - 2, middle, layout.top + layout.rowHeight * values.length + 2, palette.hairline);
    values.forEach((value, row) => {
      const length = (reach * Math.abs(value)) / most;
      const gap = layout.rowHeight > 5 ? 1.5 : 0.5;
      const thickness = layout.rowHeight - 2 * gap;
      surface.rect(
        value < 0 ? middle - length : middle,
        layout.top + row * layout.rowHeight + gap,
        Math.max(0.5, length),
        thickness,
        value < 0 ? below : fill,
        thickness >= 4 ? 1 : 0,
      );
    });
  });
}
