/** Why this weight: a query times a key, dimension by dimension, down to the weight. */

import { type Signal, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { usePage } from "../context";
import type { Pair } from "../contract";
import { type ColumnsLayout, dimensionAt, drawColumns, layoutColumns, titleLength } from "../draw/columns";
import type { Picture } from "../draw/save";
import { fixed, isRootScale, quantity, weightText } from "../format";
import { Say, say } from "../i18n/language";
import { label } from "../text";
import { palette } from "../theme";
import { Canvas, useWidth } from "./canvas";
import { Save } from "./save";

const WIDEST = 340;

export function Why() {
  const { explorer } = usePage();
  const [room, width] = useWidth<HTMLElement>();
  const dimension = useSignal<number | null>(null);
  const answer = explorer.pair.answer.value;
  const failure = explorer.pair.failure.value;
  const { selection, querySide, keySide, stack } = explorer;
  const pair = answer?.question.stack === selection.value.stack ? answer.value : null;
  // While a new answer is on its way, the names are those of the numbers that are shown.
  const query = label(querySide.value.tokens[(pair ?? selection.value).query]);
  const key = label(keySide.value.tokens[(pair ?? selection.value).key]);
  const layout = layoutColumns(Math.max(60, Math.min(width, WIDEST)), stack.value.head_dim);
  const picture = usePicture(pair, layout, dimension);
  const { layer, head } = selection.value;
  return (
    <section class={failure === null ? "why" : "why stale"} ref={room}>
      <div class="title">
        <h2>
          <Say of="whyTitle" query={query} k={key} />
        </h2>
        <Save
          picture={picture}
          name={`qkv-${explorer.overview.model}-${stack.value.name}-L${layer}H${head}-q${selection.value.query}-k${selection.value.key}`}
        />
      </div>
      <p class="note dimension">
        {pair !== null && dimension.value !== null ? (
          <Dimension pair={pair} index={dimension.value} />
        ) : (
          say("whyNote", { dim: stack.value.head_dim })
        )}
      </p>
      {failure !== null && <p class="note problem">{say("failed", { message: failure })}</p>}
      {pair !== null && picture !== null && width > 0 && (
        <>
          <Canvas
            picture={picture}
            label={say("whyColumns")}
            onPointerMove={(event) => (dimension.value = dimensionAt(layout, event.offsetY))}
            onPointerLeave={() => (dimension.value = null)}
          />
          <Sum pair={pair} query={query} k={key} />
        </>
      )}
    </section>
  );
}

function usePicture(pair: Pair | null, layout: ColumnsLayout, dimension: Signal<number | null>): Picture | null {
  const { explorer } = usePage();
  if (pair === null) return null;
  const scene = {
    layout,
    pair,
    query: label(explorer.querySide.value.tokens[pair.query], titleLength(layout)),
    key: label(explorer.keySide.value.tokens[pair.key], titleLength(layout)),
    pointed: dimension.value,
    palette: palette.value,
  };
  return { width: layout.width, height: layout.height, draw: (surface) => drawColumns(surface, scene) };
}

function Dimension({ pair, index }: { pair: Pair; index: number }) {
  const at = (values: readonly number[]) => fixed(values[index] ?? 0, 2);
  return (
    <Say of="whyDimension" index={index} q={at(pair.query_vector)} k={at(pair.key_vector)} product={at(pair.product)} />
  );
}

/** Each operation on a line of its own: what is done, the number after it, and why. */
function Sum({ pair, query, k }: { pair: Pair; query: string; k: string }) {
  const root = isRootScale(pair.scale, pair.product.length);
  return (
    <div class="sum">
      <Line number={fixed(pair.dot, 2)} why={say("whySum")}>
        <span class="q">q</span>·<span class="k">k</span>
      </Line>
      {pair.scale !== 1 && (
        <Line number={fixed(pair.scaled, 2)} why={say(root ? "whyScale" : "whyScaleOwn")}>
          {root ? `÷ √${pair.product.length}` : `× ${Number(pair.scale.toPrecision(3))}`}
        </Line>
      )}
      {pair.softcap !== null && (
        <Line number={fixed(pair.capped, 2)} why={say("whyCap", { cap: pair.softcap })}>
          softcap
        </Line>
      )}
      {pair.bias !== 0 && (
        <Line number={fixed(pair.score, 2)} why={say("whyBias")}>
          {pair.bias < 0 ? "−" : "+"} {quantity(Math.abs(pair.bias))}
        </Line>
      )}
      {pair.masked ? (
        <p class="note">
          <Say of="whyMasked" query={query} k={k} />
        </p>
      ) : pair.lse === null ? (
        <p class="note">{say("whyNothing")}</p>
      ) : (
        <Line
          number={weightText(pair.weight)}
          why={`= e^(${fixed(pair.score, 2)} − ${fixed(pair.lse, 2)})`}
          title={say("whySoftmax", { lse: fixed(pair.lse, 2) })}
          weight
        >
          softmax
        </Line>
      )}
    </div>
  );
}

function Line({
  number,
  why,
  title,
  weight,
  children,
}: {
  number: string;
  why: string;
  title?: string;
  weight?: boolean;
  children: ComponentChildren;
}) {
  return (
    <p class="step" title={title}>
      <span class="formula">{children}</span>
      <span class="equals">=</span>
      <span class={weight ? "number meaning-w" : "number"}>{number}</span>
      <span class="note">{why}</span>
    </p>
  );
}
