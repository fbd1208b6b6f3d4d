/**
 * The state of the map: its layout, its camera, and the tiles it is drawn from.
 *
 * A short text is one exact tile. A long one is an overview of summed blocks with a finer tile on it, asked for as the
 * camera moves, down to single tokens.
 */

import { type ReadonlySignal, type Signal, computed, effect, signal } from "@preact/signals";
import {
  type Camera,
  type MapLayout,
  clampCamera,
  closeUp,
  isWhole,
  layoutMap,
  panBy,
  reveal,
  seenColumns,
  seenRows,
  wholeCamera,
  zoomAt,
} from "./draw/camera";
import { LABEL_SIZE } from "./draw/map";
import { type Tile, around, isExact, previewTile, tileOf, valueAt } from "./draw/tile";
import { type Explorer, WHOLE_MAP, type WindowQuestion } from "./explorer";
import { widthOf } from "./measure";
import { type Resource, resource } from "./resource";
import type { Values } from "./source/source";
import { LONG_TEXT, label } from "./text";
import type { Side, Token, Window } from "./contract";

/** Characters of a label on an axis, on a wide screen and on a phone. */
const LONGEST_LABEL = { wide: 14, narrow: 9 };
/** With smaller cells than this the map can be zoomed. */
const READABLE = 20;

export interface MapModel {
  readonly room: Signal<{ width: number; tallest: number; narrow: boolean }>;
  readonly layout: ReadonlySignal<MapLayout>;
  readonly camera: ReadonlySignal<Camera>;
  readonly tiles: ReadonlySignal<readonly Tile[]>;
  readonly detail: Resource<WindowQuestion, Values<Window>>;
  readonly zoomable: ReadonlySignal<boolean>;
  readonly whole: ReadonlySignal<boolean>;
  zoom(factor: number, x?: number, y?: number): void;
  pan(dx: number, dy: number): void;
  showAll(): void;
  showPair(): void;
}

export function axisLabel(tokens: readonly Token[], index: number, narrow: boolean): string {
  return label(tokens[index], narrow ? LONGEST_LABEL.narrow : LONGEST_LABEL.wide);
}

export function createMapModel(explorer: Explorer): MapModel {
  const room = signal({ width: 0, tallest: 720, narrow: false });
  const chosen = signal<Camera | null>(null);

  const layout = computed(() => {
    const rows = explorer.querySide.value.tokens.length;
    const columns = explorer.keySide.value.tokens.length;
    return layoutMap({
      ...room.value,
      rows,
      columns,
      rowLabel: labelRoom(explorer.querySide.value, room.value.narrow),
      columnLabel: labelRoom(explorer.keySide.value, room.value.narrow),
    });
  });
  const camera = computed(() =>
    chosen.value === null ? wholeCamera(layout.value) : clampCamera(chosen.value, layout.value),
  );
  const whole = computed(() => isWhole(camera.value, layout.value));
  const zoomable = computed(() => Math.min(layout.value.fitRow, layout.value.fitColumn) < READABLE);

  const detailQuestion = computed<WindowQuestion | null>(() => {
    const overview = explorer.whole.answer.value;
    if (overview === null || overview.value.header.block === 1 || whole.value) return null;
    const rows = around(seenRows(camera.value, layout.value), layout.value.rows);
    const columns = around(seenColumns(camera.value, layout.value), layout.value.columns);
    const block = Math.ceil(Math.max(rows[1] - rows[0], columns[1] - columns[0]) / WHOLE_MAP);
    if (block >= overview.value.header.block) return null;
    const { stack, layer, head } = explorer.selection.value;
    return keep({ stack, layer, head, rows, columns, side: WHOLE_MAP });
  });
  const keep = keeper<WindowQuestion>();
  const detail = resource(detailQuestion, (asked) =>
    explorer.source.window(asked, asked.rows, asked.columns, asked.side),
  );

  const tiles = computed<readonly Tile[]>(() => {
    const preview = explorer.preview.value;
    if (preview !== null) {
      const thumbnails = explorer.thumbnails.get(preview.stack)?.answer.value;
      const stack = explorer.overview.stacks.find((candidate) => candidate.name === preview.stack);
      if (thumbnails && stack && preview.stack === explorer.stack.value.name) {
        const { rows, columns } = layout.value;
        return [
          previewTile(
            thumbnails.value,
            stack.layers.indexOf(preview.layer),
            stack.heads.indexOf(preview.head),
            rows,
            columns,
          ),
        ];
      }
    }
    const overview = explorer.whole.answer.value;
    if (overview === null || overview.question.stack !== explorer.stack.value.name) return [];
    const fine = detail.answer.value;
    const same =
      fine !== null &&
      fine.question.layer === overview.question.layer &&
      fine.question.head === overview.question.head &&
      fine.question.stack === overview.question.stack;
    return same && !whole.value ? [tileFor(overview.value), tileFor(fine.value)] : [tileFor(overview.value)];
  });

  // A long text is summed into as many cells as there are pixels, so that no line falls between them.
  effect(() => {
    const { plot } = layout.value;
    if (room.value.width > 0)
      explorer.mapPixels.value = Math.max(
        64,
        Math.ceil((Math.max(plot.width, plot.height) * devicePixelRatio) / 32) * 32,
      );
  });

  // Another text, another map; and the pair that is moved by keys stays in view.
  let stackBefore = explorer.stack.value.name;
  effect(() => {
    const { stack, query, key } = explorer.selection.value;
    if (stack !== stackBefore) {
      stackBefore = stack;
      chosen.value = null;
    } else if (chosen.peek() !== null && !whole.peek()) {
      chosen.value = reveal(camera.peek(), layout.peek(), query, key);
    }
  });

  return {
    room,
    layout,
    camera,
    tiles,
    detail,
    zoomable,
    whole,
    zoom(factor, x, y) {
      if (!zoomable.value) return;
      const { plot } = layout.value;
      chosen.value = zoomAt(
        camera.value,
        layout.value,
        x ?? plot.x + plot.width / 2,
        y ?? plot.y + plot.height / 2,
        factor,
      );
    },
    pan(dx, dy) {
      if (!whole.value) chosen.value = panBy(camera.value, layout.value, dx, dy);
    },
    showAll() {
      chosen.value = null;
    },
    showPair() {
      chosen.value = closeUp(layout.value, explorer.selection.value.query, explorer.selection.value.key);
    },
  };
}

/** What the map knows about a pair: the weight itself, or the mean of the block that it is drawn in. */
export function readCell(
  tiles: readonly Tile[],
  query: number,
  key: number,
): { value: number; exact: boolean; tile: Tile } | null {
  for (const tile of [...tiles].reverse()) {
    const value = valueAt(tile, query, key);
    if (value !== null) return { value, exact: isExact(tile), tile };
  }
  return null;
}

const made = new WeakMap<Values<Window>, Tile>();

function tileFor(values: Values<Window>): Tile {
  let tile = made.get(values);
  if (tile === undefined) made.set(values, (tile = tileOf(values)));
  return tile;
}

/** Keeps a value's identity while its content stays the same. */
function keeper<T>(): (value: T) => T {
  let last: { name: string; value: T } | null = null;
  return (value) => {
    const name = JSON.stringify(value);
    if (last?.name !== name) last = { name, value };
    return last.value;
  };
}

/** Room for the longest label; where not all of them are seen at once, for the longest there can be. */
function labelRoom(side: Side, narrow: boolean): number {
  const style = { size: LABEL_SIZE, face: "mono", bold: true } as const;
  if (side.tokens.length > LONG_TEXT)
    return widthOf("0".repeat(narrow ? LONGEST_LABEL.narrow : LONGEST_LABEL.wide), style);
  return side.tokens.reduce(
    (widest, _, index) => Math.max(widest, widthOf(axisLabel(side.tokens, index, narrow), style)),
    20,
  );
}
