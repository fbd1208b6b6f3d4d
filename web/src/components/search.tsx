/** Find words in the text and ask them. */

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { usePage } from "../context";
import type { SideName } from "../contract";
import { say } from "../i18n/language";
import { type Found, find } from "../text";

export const searching = signal(false);
/** The match that is shown now. */
export const found = signal<{ side: SideName; match: Found } | null>(null);

const words = signal("");
const at = signal(0);
/** Whether the match that is shown has been asked; before, typing has only found it. */
let asked = false;

export function closeSearch(): void {
  searching.value = false;
  found.value = null;
}

export function Search() {
  const { explorer } = usePage();
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), [searching.value]);

  if (!searching.value) {
    return (
      <button type="button" class="link search-open" onClick={() => (searching.value = true)}>
        {say("search")} <kbd>/</kbd>
      </button>
    );
  }
  const side = explorer.querySide.value;
  const matches = find(side.tokens, words.value);
  const show = (index: number) => {
    const match = matches[(index + matches.length) % matches.length];
    if (match === undefined) return;
    at.value = (index + matches.length) % matches.length;
    found.value = { side: side.name, match };
    asked = true;
    void explorer.selectQuery(match.last);
  };
  return (
    <form
      class="search"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        show(asked ? at.value + 1 : 0);
      }}
    >
      <input
        ref={field}
        type="search"
        value={words.value}
        placeholder={say("searchPlaceholder")}
        aria-label={say("search")}
        onInput={(event) => {
          words.value = event.currentTarget.value;
          at.value = 0;
          asked = false;
          const [match] = find(side.tokens, words.value, 1);
          found.value = match === undefined ? null : { side: side.name, match };
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") closeSearch();
          if (event.key === "ArrowDown" || event.key === "ArrowUp") {
            event.preventDefault();
            show(at.value + (event.key === "ArrowDown" ? 1 : -1));
          }
        }}
      />
      <span class="note search-count" role="status">
        {words.value.trim() === ""
          ? ""
          : matches.length === 0
            ? say("searchNone")
            : say("searchCount", { at: at.value + 1, count: matches.length })}
      </span>
      {matches.length > 0 && (
        <button type="submit" class="link">
          {say("next")}
        </button>
      )}
      <button type="button" class="link" aria-label={say("close")} onClick={closeSearch}>
        ×
      </button>
    </form>
  );
}
