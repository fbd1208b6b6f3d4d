/** Which head: all of them as small maps. Point to preview, click to choose. */

import { usePage } from "../context";
import type { Stack } from "../contract";
import type { Picture } from "../draw/save";
import { type Grid, drawGrid, headAt, layoutGrid } from "../draw/thumbnails";
import { Say, say } from "../i18n/language";
import { palette } from "../theme";
import { touch } from "../touch";
import { Canvas, useWidth } from "./canvas";
import { Figures } from "./figures";
import { stackName } from "./header";
import { Save } from "./save";

/** A stack's grid gets this tall, alone and beside others. */
const TALLEST = { alone: 560, beside: 320 };

export function Heads() {
  const { overview } = usePage().explorer;
  const [room, width] = useWidth<HTMLElement>();
  const count = overview.stacks.reduce((sum, stack) => sum + stack.layers.length * stack.heads.length, 0);
  const several = overview.stacks.length > 1;
  const grids = overview.stacks.map((stack) => {
    const grid = layoutGrid(
      Math.max(width, 100),
      stack.layers.length,
      stack.heads.length,
      several ? TALLEST.beside : TALLEST.alone,
    );
    return { stack, grid, picture: usePicture(stack, grid) };
  });
  const save = ({ stack, picture }: (typeof grids)[number]) => (
    <Save picture={picture} name={`qkv-${overview.model}-${stack.name}-heads`} />
  );
  return (
    <section class="heads" ref={room}>
      <div class="title">
        <h2>{say("headsTitle")}</h2>
        {!several && save(grids[0]!)}
      </div>
      <p class="note">
        <Say of={touch.matches ? "headsNoteTouch" : "headsNote"} count={count} />
      </p>
      {width > 0 &&
        grids.map((one) => (
          <div class="stack" key={one.stack.name}>
            {several && (
              <p class="stack-name note">
                <span>
                  {stackName(one.stack.name)}
                  {one.stack.name === "cross" && ` · ${say("stackCrossNote")}`}
                </span>
                {save(one)}
              </p>
            )}
            <StackGrid {...one} />
          </div>
        ))}
      <Figures />
    </section>
  );
}

function usePicture(stack: Stack, grid: Grid): Picture {
  const { explorer } = usePage();
  const place = (name: { stack: string; layer: number; head: number } | null) =>
    name?.stack === stack.name
      ? { layer: stack.layers.indexOf(name.layer), head: stack.heads.indexOf(name.head) }
      : null;
  const scene = {
    grid,
    values: explorer.thumbnails.get(stack.name)?.answer.value?.value ?? null,
    layerNames: stack.layers,
    headNames: stack.heads,
    selected: place(explorer.selection.value),
    pointed: place(explorer.preview.value),
    palette: palette.value,
  };
  return { width: grid.width, height: grid.height, draw: (surface) => drawGrid(surface, scene) };
}

function StackGrid({ stack, grid, picture }: { stack: Stack; grid: Grid; picture: Picture }) {
  const { explorer } = usePage();
  const { selection, preview } = explorer;
  const under = (event: PointerEvent | MouseEvent) => {
    const place = headAt(grid, event.offsetX, event.offsetY);
    return place && { stack: stack.name, layer: stack.layers[place.layer]!, head: stack.heads[place.head]! };
  };
  const step: Record<string, () => void> = {
    ArrowLeft: () => explorer.moveHead(-1),
    ArrowRight: () => explorer.moveHead(1),
    ArrowUp: () => explorer.moveLayer(-1),
    ArrowDown: () => explorer.moveLayer(1),
  };
  return (
    <Canvas
      picture={picture}
      label={`${say("headsLabel")}: ${say("layerHead", { layer: selection.value.layer, head: selection.value.head })}`}
      class="choosable"
      tabIndex={0}
      onPointerMove={(event) => {
        if (event.pointerType === "touch") return;
        const name = under(event);
        const before = preview.value;
        if (name?.layer !== before?.layer || name?.head !== before?.head || name?.stack !== before?.stack)
          preview.value = name;
      }}
      onPointerLeave={() => (preview.value = null)}
      onClick={(event) => {
        const name = under(event);
        if (name) explorer.selectHead(name);
      }}
      onKeyDown={(event) => {
        if (!(event.key in step)) return;
        event.preventDefault();
        event.stopPropagation();
        if (selection.value.stack === stack.name) step[event.key]!();
        else explorer.selectHead({ stack: stack.name, layer: stack.layers[0]!, head: stack.heads[0]! });
      }}
    />
  );
}
