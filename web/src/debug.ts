/** `window.__qkv`: what the page knows, as values, for tests and for the curious. */

import type { Page } from "./context";
import { disconnected } from "./resource";
import { language } from "./i18n/language";
import { theme } from "./theme";

interface Painted {
  readonly query: number;
  readonly weights: number[];
  /** When the ink was changed, on the clock of `performance.now()`. */
  readonly at: number;
}

let last: Painted | null = null;

/** The reading line has taken the ink of a query's row. */
export function painted(query: number, weights: ArrayLike<number>): void {
  last = {
    query,
    get weights() {
      return Array.from(weights);
    },
    at: performance.now(),
  };
}

export function exposeDebugHook({ explorer, map }: Page): void {
  const hook = {
    overview: explorer.overview,
    get selection() {
      return explorer.selection.peek();
    },
    get pointed() {
      return explorer.pointed.peek();
    },
    get preview() {
      return explorer.preview.peek();
    },
    get head() {
      return explorer.head.answer.peek()?.value ?? null;
    },
    get pair() {
      return explorer.pair.answer.peek()?.value ?? null;
    },
    get predictions() {
      return explorer.predictions.answer.peek()?.value ?? null;
    },
    /** Written words and where they came from, as far as they were seen. */
    get aligned() {
      return explorer.aligned.known.peek().flatMap((alignment) => alignment.words);
    },
    get painted() {
      return last;
    },
    get map() {
      const { width, height, plot } = map.layout.peek();
      return {
        size: { width, height },
        plot,
        camera: map.camera.peek(),
        tiles: map.tiles
          .peek()
          .map(({ values, ...tile }) => ({ ...tile, sum: values.reduce((sum, value) => sum + value, 0) })),
      };
    },
    /** Nothing is on its way. */
    get idle() {
      const resources = [
        explorer.head,
        explorer.row,
        explorer.pair,
        explorer.whole,
        explorer.derivation,
        explorer.predictions,
        explorer.aligned.block,
        map.detail,
      ];
      return (
        resources.every((one) => !one.busy.peek()) && [...explorer.thumbnails.values()].every((one) => !one.busy.peek())
      );
    },
    get language() {
      return language.peek();
    },
    get theme() {
      return theme.peek();
    },
    get disconnected() {
      return disconnected.peek();
    },
  };
  Object.defineProperty(window, "__qkv", { value: hook, configurable: true });
}
