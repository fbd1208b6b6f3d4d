/** Keys for the whole page. Where somebody types, keys write. */

import { closeSearch, searching } from "./components/search";
import { open } from "./components/derivation";
import { keysOpen } from "./components/keys";
import type { Page } from "./context";
import { toggleTheme } from "./theme";

export function followKeyboard({ explorer, map }: Page): void {
  const actions: Record<string, () => void> = {
    ArrowUp: () => explorer.movePair(-1, 0),
    ArrowDown: () => explorer.movePair(1, 0),
    ArrowLeft: () => explorer.movePair(0, -1),
    ArrowRight: () => explorer.movePair(0, 1),
    "[": () => explorer.moveHead(-1),
    "]": () => explorer.moveHead(1),
    "{": () => explorer.moveLayer(-1),
    "}": () => explorer.moveLayer(1),
    "/": () => (searching.value = true),
    "+": () => map.zoom(1.6),
    "=": () => map.zoom(1.6),
    "-": () => map.zoom(1 / 1.6),
    "0": () => map.showAll(),
    t: toggleTheme,
    "?": () => (keysOpen.value = true),
    Escape: () => {
      closeSearch();
      open.value = null;
    },
  };
  addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (
      event.defaultPrevented ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      document.querySelector("dialog[open]") !== null
    )
      return;
    if (target.closest("input, textarea, select, [contenteditable]")) return;
    const action = actions[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  });
}
