/** One line that says in words what the pointer is on, else the chosen pair. */

import { usePage } from "../context";
import { fixed, weightText } from "../format";
import { Say, say } from "../i18n/language";
import { readCell } from "../mapmodel";
import { touch } from "../touch";
import { LONG_TEXT, label } from "../text";

export function MapReadout() {
  const { explorer, map } = usePage();
  const { pointed, selection, querySide, keySide, stack } = explorer;
  const name = (side: typeof querySide.value, index: number) => {
    const text = label(side.tokens[index]);
    return side.tokens.length > LONG_TEXT ? say("mapPosition", { text, position: index }) : text;
  };
  const isPointed = pointed.value.query !== null && pointed.value.key !== null;
  const query = isPointed ? pointed.value.query! : selection.value.query;
  const key = isPointed ? pointed.value.key! : selection.value.key;
  const tiles = map.tiles.value;
  const cell = readCell(tiles, query, key);
  const pair = explorer.pair.answer.value;
  const known =
    !isPointed && explorer.preview.value === null && pair !== null && pair.question === selection.value
      ? pair.value.weight
      : null;
  const head = explorer.head.answer.value?.value;
  const causal = stack.value.causal && stack.value.query_side === stack.value.key_side;

  let line;
  if (pointed.value.query !== null && pointed.value.key === null && head?.entropy[pointed.value.query] !== undefined) {
    line = (
      <Say
        of="mapEntropy"
        query={name(querySide.value, pointed.value.query)}
        entropy={fixed(head.entropy[pointed.value.query]!, 2)}
      />
    );
  } else if (
    pointed.value.query === null &&
    pointed.value.key !== null &&
    head?.received[pointed.value.key] !== undefined
  ) {
    line = (
      <Say
        of="mapReceived"
        k={name(keySide.value, pointed.value.key)}
        received={fixed(head.received[pointed.value.key]!, 2)}
      />
    );
  } else if (causal && key > query) {
    line = <Say of="mapMasked" query={name(querySide.value, query)} k={name(keySide.value, key)} />;
  } else if (known !== null || cell?.exact) {
    line = (
      <Say
        of="mapRead"
        query={name(querySide.value, query)}
        k={name(keySide.value, key)}
        weight={weightText(known ?? cell!.value)}
      />
    );
  } else if (cell !== null) {
    const range = (from: number, block: number, at: number, length: number) => {
      const first = Math.floor(from + Math.floor((at - from) / block) * block);
      return `${first}–${Math.min(length, Math.ceil(first + block)) - 1}`;
    };
    const rows = range(cell.tile.rowStart, cell.tile.rowBlock, query, querySide.value.tokens.length);
    const columns = range(cell.tile.columnStart, cell.tile.columnBlock, key, keySide.value.tokens.length);
    line = (
      <Say
        of="mapReadBlock"
        rows={`${name(querySide.value, query)} ${rows}`}
        columns={`${name(keySide.value, key)} ${columns}`}
        weight={weightText(cell.value)}
      />
    );
  } else {
    line = say("loading");
  }
  return (
    <p class="readout" aria-live="polite">
      <span>{line}</span>
      <span class="hint">{hint()}</span>
    </p>
  );

  function hint(): string {
    const finest = tiles[tiles.length - 1];
    if (isPointed || finest === undefined) return "";
    if (!map.zoomable.value) return say(touch.matches ? "mapHoverTouch" : "mapHover");
    return finest.rowBlock > 1 ? say("mapHoverLong", { block: Math.round(finest.rowBlock) }) : say("mapHoverExact");
  }
}
