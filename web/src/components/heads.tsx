/** Which head: all of them as small maps. Point to preview, click to choose. */

import { useRef } from "preact/hooks";
import { usePage } from "../context";
import type { Stack } from "../contract";
import { drawGrid, headAt, layoutGrid } from "../draw/thumbnails";
import { Say, say } from "../i18n/language";
import { palette } from "../theme";
import { Canvas, useWidth } from "./canvas";
import { Figures } from "./figures";
import { stackName } from "./header";
import { Save } from "./save";

export function Heads() {
  const { overview } = usePage().explorer;
  const count = overview.stacks.reduce((sum, stack) => sum + stack.layers.length * stack.heads.length, 0);
  return (
    <section class="heads">
      <h2>{say("headsTitle")}</h2>
      <p class="note">
        <Say of="headsNote" count={count} />
      </p>
      {overview.stacks.map((stack) => (
        <StackGrid key={stack.name} stack={stack} named={overview.stacks.length > 1} />
      ))}
      <Figures />
    </section>
  );
}

function StackGrid({ stack, named }: { stack: Stack; named: boolean }) {
  const { explorer } = usePage();
  const [room, width] = useWidth<HTMLDivElement>();
  const grid = useRef<ReturnType<typeof layoutGrid> | null>(null);
  const { selection, preview } = explorer;
  grid.current = layoutGrid(Math.max(width, 100), stack.layers.length, stack.heads.length, named ? 320 : 560);

  const placed = (name: { stack: string; layer: number; head: number } | null) =>
    name?.stack === stack.name ? { layer: stack.layers.indexOf(name.layer), head: stack.heads.indexOf(name.head) } : null;
  const under = (event: PointerEvent | MouseEvent) => {
    const place = headAt(grid.current!, event.offsetX, event.offsetY);
    return place && { stack: stack.name, layer: stack.layers[place.layer]!, head: stack.heads[place.head]! };
  };
  const picture = {
    width: grid.current.width,
    height: grid.current.height,
    draw: (surface: Parameters<typeof drawGrid>[0]) =>
      drawGrid(surface, {
        grid: grid.current!,
        values: explorer.thumbnails.get(stack.name)?.answer.value?.value ?? null,
        layerNames: stack.layers,
        headNames: stack.heads,
        selected: placed(selection.value),
        pointed: placed(preview.value),
        palette: palette.value,
      }),
  };
  return (
    <div class="stack" ref={room}>
      <p class="stack-name note">
        <span>
          {named && (
            <>
              {stackName(stack.name)}
              {stack.name === "cross" && <> · {say("stackCrossNote")}</>}
            </>
          )}
        </span>
        <Save picture={picture} name={`qkv-${explorer.overview.model}-${stack.name}-heads`} />
      </p>
      {width > 0 && (
        <Canvas
          picture={picture}
          label={`${say("headsLabel")}: ${say("layerHead", { layer: selection.value.layer, head: selection.value.head })}`}
          class="choosable"
          tabIndex={0}
          onPointerMove={(event) => {
            if (event.pointerType === "touch") return;
            const name = under(event);
            const before = preview.value;
            if (name?.layer !== before?.layer || name?.head !== before?.head || name?.stack !== before?.stack) preview.value = name;
          }}
          onPointerLeave={() => (preview.value = null)}
          onClick={(event) => {
            const name = under(event);
            if (name) explorer.selectHead(name);
          }}
          onKeyDown={(event) => {
            const step = { ArrowLeft: () => explorer.moveHead(-1), ArrowRight: () => explorer.moveHead(1), ArrowUp: () => explorer.moveLayer(-1), ArrowDown: () => explorer.moveLayer(1) }[event.key];
            if (step === undefined) return;
            event.preventDefault();
            event.stopPropagation();
            if (selection.value.stack !== stack.name) explorer.selectHead({ stack: stack.name, layer: stack.layers[0]!, head: stack.heads[0]! });
            else step();
          }}
        />
      )}
    </div>
  );
}
