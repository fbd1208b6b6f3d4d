/**
 * Where the map lies on the screen.
 *
 * The layout says how much room the plot has beside its labels and marginals; the camera says which tokens it shows. A
 * camera never leaves the map, and its zoom ends where a cell is large enough to be read.
 */

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface MapLayout {
  readonly width: number;
  readonly height: number;
  readonly plot: Rect;
  /** Room for the entropy of rows, right of the plot. */
  readonly right: number;
  /** Room for the weight received, below the plot. */
  readonly below: number;
  readonly rows: number;
  readonly columns: number;
  /** Pixels a token at which the whole map is seen. */
  readonly fitRow: number;
  readonly fitColumn: number;
}

/** First token seen, and pixels a token, on each axis. */
export interface Camera {
  readonly row: number;
  readonly column: number;
  readonly rowScale: number;
  readonly columnScale: number;
}

/** No cell is drawn larger than this when the whole map is seen, nor larger than `LARGEST` by zooming. */
const COMFORTABLE = 31;
const LARGEST = 44;
/** From this size on, cells are drawn one by one, with gaps and labels. */
export const CELLS = 11;
/** From this size on, strong cells show their number. */
export const NUMBERS = 25;
/** Labels above the map stand at this angle. */
export const LABEL_ANGLE = -50;

export interface Room {
  readonly width: number;
  readonly tallest: number;
  readonly rows: number;
  readonly columns: number;
  /** Widths of the longest labels, in pixels. */
  readonly rowLabel: number;
  readonly columnLabel: number;
  readonly narrow: boolean;
}

export function layoutMap(room: Room): MapLayout {
  const { rows, columns } = room;
  const left = Math.round(room.rowLabel) + 12;
  const angle = (-LABEL_ANGLE * Math.PI) / 180;
  const top = Math.round(Math.sin(angle) * room.columnLabel) + 16;
  const right = room.narrow ? 34 : 56;
  const below = room.narrow ? 44 : 60;
  const overhang = Math.max(0, Math.cos(angle) * room.columnLabel + 6 - right);
  const widest = Math.max(60, room.width - left - right - overhang);
  const tallest = Math.max(60, room.tallest - top - below);

  let fitColumn = Math.min(COMFORTABLE, widest / columns);
  let fitRow = Math.min(COMFORTABLE, tallest / rows);
  // Cells are square, unless the two texts are so unlike in length that one axis would vanish.
  const ratio = fitRow / fitColumn;
  if (ratio > 0.25 && ratio < 4) fitRow = fitColumn = Math.min(fitRow, fitColumn);
  const plotWidth = columns * fitColumn;
  const plotHeight = rows * fitRow;
  const x = left + Math.max(0, (widest - plotWidth) / 2);
  return {
    width: room.width,
    height: Math.round(top + plotHeight + below),
    plot: { x: Math.round(x), y: top, width: Math.round(plotWidth), height: Math.round(plotHeight) },
    right,
    below,
    rows,
    columns,
    fitRow: Math.round(plotHeight) / rows,
    fitColumn: Math.round(plotWidth) / columns,
  };
}

export function wholeCamera(layout: MapLayout): Camera {
  return { row: 0, column: 0, rowScale: layout.fitRow, columnScale: layout.fitColumn };
}

/** The camera kept on the map. */
export function clampCamera(camera: Camera, layout: MapLayout): Camera {
  const rowScale = clamp(camera.rowScale, layout.fitRow, Math.max(layout.fitRow, LARGEST));
  const columnScale = clamp(camera.columnScale, layout.fitColumn, Math.max(layout.fitColumn, LARGEST));
  return {
    rowScale,
    columnScale,
    row: clamp(camera.row, 0, layout.rows - layout.plot.height / rowScale),
    column: clamp(camera.column, 0, layout.columns - layout.plot.width / columnScale),
  };
}

/** Zoom so that the token under a point of the canvas stays there. */
export function zoomAt(camera: Camera, layout: MapLayout, x: number, y: number, factor: number): Camera {
  const row = rowAt(camera, layout, y);
  const column = columnAt(camera, layout, x);
  const grown = clampCamera(
    { ...camera, rowScale: camera.rowScale * factor, columnScale: camera.columnScale * factor },
    layout,
  );
  return clampCamera(
    {
      ...grown,
      row: row - (y - layout.plot.y) / grown.rowScale,
      column: column - (x - layout.plot.x) / grown.columnScale,
    },
    layout,
  );
}

export function panBy(camera: Camera, layout: MapLayout, dx: number, dy: number): Camera {
  return clampCamera(
    { ...camera, row: camera.row - dy / camera.rowScale, column: camera.column - dx / camera.columnScale },
    layout,
  );
}

/** The least move that brings a pair into view, with some room around it. */
export function reveal(camera: Camera, layout: MapLayout, query: number, key: number): Camera {
  const into = (from: number, seen: number, at: number) => {
    const margin = Math.min(2, seen / 4);
    return at - margin < from ? at - margin : at + 1 + margin > from + seen ? at + 1 + margin - seen : from;
  };
  return clampCamera(
    {
      ...camera,
      row: into(camera.row, layout.plot.height / camera.rowScale, query),
      column: into(camera.column, layout.plot.width / camera.columnScale, key),
    },
    layout,
  );
}

/** As close as numbers are read, with the pair in the middle. */
export function closeUp(layout: MapLayout, query: number, key: number): Camera {
  const rowScale = Math.max(layout.fitRow, COMFORTABLE);
  const columnScale = Math.max(layout.fitColumn, COMFORTABLE);
  return clampCamera(
    {
      rowScale,
      columnScale,
      row: query + 0.5 - layout.plot.height / rowScale / 2,
      column: key + 0.5 - layout.plot.width / columnScale / 2,
    },
    layout,
  );
}

export function isWhole(camera: Camera, layout: MapLayout): boolean {
  return camera.rowScale <= layout.fitRow * 1.001 && camera.columnScale <= layout.fitColumn * 1.001;
}

export function rowAt(camera: Camera, layout: MapLayout, y: number): number {
  return camera.row + (y - layout.plot.y) / camera.rowScale;
}

export function columnAt(camera: Camera, layout: MapLayout, x: number): number {
  return camera.column + (x - layout.plot.x) / camera.columnScale;
}

export function yOf(camera: Camera, layout: MapLayout, row: number): number {
  return layout.plot.y + (row - camera.row) * camera.rowScale;
}

export function xOf(camera: Camera, layout: MapLayout, column: number): number {
  return layout.plot.x + (column - camera.column) * camera.columnScale;
}

/** The tokens that are at least partly seen: from, inclusive, to, exclusive. */
export function seenRows(camera: Camera, layout: MapLayout): [number, number] {
  return seen(camera.row, layout.plot.height / camera.rowScale, layout.rows);
}

export function seenColumns(camera: Camera, layout: MapLayout): [number, number] {
  return seen(camera.column, layout.plot.width / camera.columnScale, layout.columns);
}

function seen(first: number, count: number, length: number): [number, number] {
  return [Math.max(0, Math.floor(first)), Math.min(length, Math.ceil(first + count - 1e-6))];
}

function clamp(value: number, low: number, high: number): number {
  return Math.max(low, Math.min(high, value));
}
