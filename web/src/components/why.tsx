/** Why this weight: a query times a key, dimension by dimension, down to the weight. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { usePage } from "../context";
import type { Pair } from "../contract";
import { dimensionAt, drawColumns, layoutColumns } from "../draw/columns";
import { fixed, isRootScale, quantity, weightText } from "../format";
import { Say, say } from "../i18n/language";
import { axisLabel } from "../mapmodel";
import { label } from "../text";
import { palette } from "../theme";
import { Canvas, useWidth } from "./canvas";
import { Output } from "./output";
import { Save } from "./save";

export function Why() {
  const { explorer } = usePage();
  const [room, width] = useWidth<HTMLElement>();
  const answer = explorer.pair.answer.value;
  const failure = explorer.pair.failure.value;
  const { selection, querySide, keySide } = explorer;
  const query = label(querySide.value.tokens[selection.value.query]);
  const key = label(keySide.value.tokens[selection.value.key]);
  return (
    <section class="why" ref={room}>
      <h2>
        <Say of="whyTitle" query={query} k={key} />
      </h2>
      <p class="note">{say("whyNote", { dim: explorer.stack.value.head_dim })}</p>
      {failure !== null && <p class="note problem">{say("failed", { message: failure })}</p>}
      {answer !== null && answer.question.stack === selection.value.stack && width > 0 && (
        <>
          <Columns pair={answer.value} width={width} />
          <Sum pair={answer.value} query={query} k={key} />
          <Output pair={answer.value} query={query} />
        </>
      )}
    </section>
  );
}

function Columns({ pair, width }: { pair: Pair; width: number }) {
  const { explorer } = usePage();
  const pointed = useSignal<number | null>(null);
  const layout = layoutColumns(Math.min(width, 340), pair.product.length);
  const picture = {
    width: layout.width,
    height: layout.height,
    draw: (surface: Parameters<typeof drawColumns>[0]) =>
      drawColumns(surface, {
        layout,
        pair,
        query: axisLabel(explorer.querySide.value.tokens, pair.query),
        key: axisLabel(explorer.keySide.value.tokens, pair.key),
        pointed: pointed.value,
        palette: palette.value,
      }),
  };
  const index = pointed.value;
  const { stack, layer, head } = explorer.selection.value;
  return (
    <>
      <Canvas
        picture={picture}
        label={say("whyColumns")}
        onPointerMove={(event) => (pointed.value = dimensionAt(layout, event.offsetY))}
        onPointerLeave={() => (pointed.value = null)}
      />
      <p class="note under">
        <span>
          {index !== null && index < pair.product.length && (
            <Say of="whyDimension" index={index} q={fixed(pair.query_vector[index]!, 2)} k={fixed(pair.key_vector[index]!, 2)} product={fixed(pair.product[index]!, 2)} />
          )}
        </span>
        <Save picture={picture} name={`qkv-${explorer.overview.model}-${stack}-L${layer}H${head}-q${pair.query}-k${pair.key}`} />
      </p>
    </>
  );
}

/** Each operation on a line of its own: what is done, and the number after it. */
function Sum({ pair, query, k }: { pair: Pair; query: string; k: string }) {
  const dim = pair.product.length;
  const root = isRootScale(pair.scale, dim);
  return (
    <div class="sum">
      <Line title={say("whySum")} number={fixed(pair.dot, 2)}>
        <span class="q">q</span>·<span class="k">k</span>
      </Line>
      {pair.scale !== 1 && (
        <Line title={say(root ? "whyScale" : "whyScaleOwn")} number={fixed(pair.scaled, 2)}>
          {root ? (
            <>
              ÷ √<span class="root">{dim}</span>
            </>
          ) : (
            `× ${Number(pair.scale.toPrecision(3))}`
          )}
        </Line>
      )}
      {pair.softcap !== null && (
        <Line title={say("whyCap", { cap: pair.softcap })} number={fixed(pair.capped, 2)}>
          {pair.softcap} tanh(· ÷ {pair.softcap})
        </Line>
      )}
      {pair.bias !== 0 && (
        <Line title={say("whyBias")} number={fixed(pair.score, 2)}>
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
        <Line title={say("whySoftmax", { lse: fixed(pair.lse, 2) })} number={weightText(pair.weight)} weight>
          softmax <span class="exponent">e^({fixed(pair.score, 2)} − {fixed(pair.lse, 2)})</span>
        </Line>
      )}
    </div>
  );
}

function Line({ title, number, weight, children }: { title: string; number: string; weight?: boolean; children: ComponentChildren }) {
  return (
    <p class="step" title={title}>
      <span class="formula">{children}</span> <span class="equals">=</span> <span class={weight ? "number meaning-w" : "number"}>{number}</span>
    </p>
  );
}
