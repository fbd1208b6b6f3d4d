/**
 * The pointer on the map: point to read a cell, click to choose it, drag to move, wheel or pinch to zoom.
 *
 * While the whole map is seen, one finger still scrolls the page; a wheel zooms in but, at the end of zooming out, lets
 * the page scroll too.
 */

import { type MapLayout, columnAt, rowAt } from "../draw/camera";
import type { Explorer } from "../explorer";
import type { MapModel } from "../mapmodel";

/** A press that moves less than this is a click. */
const STILL = 4;
const WHEEL = 0.0022;
const TRACKPAD_PINCH = 0.012;

export function attachGestures(canvas: HTMLCanvasElement, explorer: Explorer, map: MapModel): () => void {
  const fingers = new Map<number, { x: number; y: number }>();
  let moved = 0;

  const spot = (event: { offsetX: number; offsetY: number }) => hit(map, event.offsetX, event.offsetY);
  const point = (to: Hit | null) => {
    const next = { query: to?.query ?? null, key: to?.key ?? null };
    const before = explorer.pointed.peek();
    if (before.query !== next.query || before.key !== next.key) explorer.pointed.value = next;
  };

  const handlers: { [Name in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[Name]) => void } = {
    pointerdown(event) {
      fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      moved = fingers.size > 1 ? STILL : 0;
      if (!map.whole.peek() || fingers.size > 1) canvas.setPointerCapture(event.pointerId);
    },
    pointermove(event) {
      const before = fingers.get(event.pointerId);
      if (before === undefined) {
        if (event.pointerType !== "touch") point(spot(event));
        return;
      }
      const now = { x: event.offsetX, y: event.offsetY };
      const [dx, dy] = [now.x - before.x, now.y - before.y];
      moved += Math.abs(dx) + Math.abs(dy);
      fingers.set(event.pointerId, now);
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)![1];
        const grown =
          Math.hypot(now.x - other.x, now.y - other.y) /
          Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
        map.zoom(grown, (now.x + other.x) / 2, (now.y + other.y) / 2);
        map.pan(dx / 2, dy / 2);
      } else if (moved >= STILL) {
        map.pan(dx, dy);
      }
    },
    pointerup(event) {
      const alone = fingers.size === 1;
      fingers.delete(event.pointerId);
      if (!alone || moved >= STILL) return;
      const to = spot(event);
      if (to === null) return;
      if (to.query !== null && to.key !== null) explorer.select({ query: to.query, key: to.key });
      else if (to.query !== null) void explorer.selectQuery(to.query);
      else if (to.key !== null) explorer.select({ key: to.key });
    },
    pointercancel(event) {
      fingers.delete(event.pointerId);
    },
    pointerleave(event) {
      fingers.delete(event.pointerId);
      point(null);
    },
    dblclick(event) {
      map.zoom(2, event.offsetX, event.offsetY);
    },
    wheel(event) {
      if (!map.zoomable.peek() || (map.whole.peek() && event.deltaY > 0)) return;
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      map.zoom(
        Math.exp(-event.deltaY * lines * (event.ctrlKey ? TRACKPAD_PINCH : WHEEL)),
        event.offsetX,
        event.offsetY,
      );
      point(spot(event));
    },
  };
  const names = Object.keys(handlers) as (keyof HTMLElementEventMap)[];
  for (const name of names) canvas.addEventListener(name, handlers[name] as EventListener, { passive: false });
  return () => {
    for (const name of names) canvas.removeEventListener(name, handlers[name] as EventListener);
  };
}

interface Hit {
  readonly query: number | null;
  readonly key: number | null;
}

/** The pair under a point; beside the plot the query of a row alone, above and below it the key of a column alone. */
export function hit(map: Pick<MapModel, "layout" | "camera">, x: number, y: number): Hit | null {
  const layout: MapLayout = map.layout.peek();
  const camera = map.camera.peek();
  const { plot } = layout;
  const across = x >= plot.x && x < plot.x + plot.width;
  const down = y >= plot.y && y < plot.y + plot.height;
  const query = Math.min(layout.rows - 1, Math.floor(rowAt(camera, layout, y)));
  const key = Math.min(layout.columns - 1, Math.floor(columnAt(camera, layout, x)));
  if (across && down) return { query, key };
  if (down) return { query, key: null };
  if (across) return { query: null, key };
  return null;
}
