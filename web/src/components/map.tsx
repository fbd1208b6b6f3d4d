/** What the head does: its map, with axes named in words, marginals, zoom and a readout. */

import { useEffect, useMemo, useRef } from "preact/hooks";
import { usePage } from "../context";
import type { Head } from "../contract";
import { drawMap } from "../draw/map";
import type { Picture } from "../draw/save";
import { isRootScale } from "../format";
import { Say, say } from "../i18n/language";
import { axisLabel } from "../mapmodel";
import { palette } from "../theme";
import { Canvas, useWidth } from "./canvas";
import { attachGestures } from "./gestures";
import { MapReadout } from "./readout";
import { Save } from "./save";

export function MapView() {
  const { explorer, map } = usePage();
  const [room, width] = useWidth<HTMLElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (width > 0)
      map.room.value = { width, tallest: Math.max(420, Math.min(760, innerHeight * 0.68)), narrow: width < 480 };
  }, [width]);
  const ready = map.room.value.width > 0;
  useEffect(() => (canvas.current === null ? undefined : attachGestures(canvas.current, explorer, map)), [ready]);

  const picture = usePicture();
  const shown = explorer.preview.value ?? explorer.selection.value;
  const name = say("layerHead", { layer: shown.layer, head: shown.head });
  const head = explorer.head.answer.value?.value;
  const failure = explorer.whole.failure.value;
  return (
    <section class={failure === null ? "map" : "map stale"} ref={room}>
      <div class="title">
        <h2>
          {explorer.preview.value === null ? say("mapTitle") : say("mapPreview", { head: name })}{" "}
          {explorer.preview.value === null && head && <Formula head={head} dim={explorer.stack.value.head_dim} />}
        </h2>
        <span class="tools">
          <span class={explorer.whole.busy.value || map.detail.busy.value ? "busy now" : "busy"}>{say("loading")}</span>
          {map.zoomable.value && <ZoomButtons />}
          <Save
            picture={picture}
            name={`qkv-${explorer.overview.model}-${shown.stack}-L${shown.layer}H${shown.head}-map`}
          />
        </span>
      </div>
      <p class="note">
        <Say of="mapNote" />
      </p>
      <MapReadout />
      {ready && (
        <Canvas
          picture={picture}
          canvas={canvas}
          class={`choosable${map.zoomable.value ? (map.whole.value ? " zoomable" : " zoomed") : ""}`}
          label={say("mapLabel", { head: name })}
          tabIndex={0}
        />
      )}
      {failure !== null && <p class="note problem">{say("failed", { message: failure })}</p>}
    </section>
  );
}

/** softmax(QKᵀ/√d), with what this model has beyond it. */
function Formula({ head, dim }: { head: Head; dim: number }) {
  const scaled = isRootScale(head.scale, dim)
    ? `QKᵀ/√${dim}`
    : head.scale === 1
      ? "QKᵀ"
      : `${Number(head.scale.toPrecision(3))} QKᵀ`;
  const capped = head.softcap === null ? scaled : `cap(${scaled})`;
  return <span class="formula">softmax({capped})</span>;
}

function ZoomButtons() {
  const { map } = usePage();
  return (
    <span class="zoom">
      <button type="button" class="link" aria-label={say("zoomIn")} title={say("zoomIn")} onClick={() => map.zoom(1.6)}>
        +
      </button>
      <button
        type="button"
        class="link"
        aria-label={say("zoomOut")}
        title={say("zoomOut")}
        disabled={map.whole.value}
        onClick={() => map.zoom(1 / 1.6)}
      >
        −
      </button>
      <button type="button" class="link" disabled={map.whole.value} onClick={map.showAll}>
        {say("zoomFit")}
      </button>
      <button type="button" class="link" onClick={map.showPair}>
        {say("zoomPair")}
      </button>
    </span>
  );
}

function usePicture(): Picture {
  const { explorer, map } = usePage();
  const layout = map.layout.value;
  const head = explorer.preview.value === null ? (explorer.head.answer.value?.value ?? null) : null;
  const stack = explorer.stack.value;
  const masked = useMemo(
    () =>
      stack.causal && stack.query_side === stack.key_side ? (query: number, key: number) => key > query : () => false,
    [stack],
  );
  const scene = {
    layout,
    camera: map.camera.value,
    tiles: map.tiles.value,
    rowLabels: (row: number) => axisLabel(explorer.querySide.value.tokens, row, map.room.value.narrow),
    columnLabels: (column: number) => axisLabel(explorer.keySide.value.tokens, column, map.room.value.narrow),
    entropy: head?.stack === stack.name ? head.entropy : null,
    received: head?.stack === stack.name ? head.received : null,
    selected: explorer.selection.value,
    pointed: explorer.pointed.value,
    masked,
    palette: palette.value,
  };
  return { width: layout.width, height: layout.height, draw: (surface) => drawMap(surface, scene) };
}
