/** The whole way from x to the layer's output. A step opens and says what it does, with the numbers of the chosen pair. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { usePage } from "../context";
import type { Derivation as Way, Step } from "../contract";
import { fixed, isRootScale, weightText } from "../format";
import { Say, say } from "../i18n/language";
import { label } from "../text";

/** Which step is open, by its place. */
export const open = signal<number | null>(null);

export function DerivationStrip() {
  const { explorer } = usePage();
  const way = explorer.derivation.answer.value?.value;
  if (way === undefined) return null;
  const at = open.value !== null && open.value < way.steps.length ? open.value : null;
  return (
    <section class="derivation" aria-label={say("derivationTitle")}>
      <ol>
        {way.steps.map((step, index) => (
          <li key={index}>
            <button
              type="button"
              class={step.name === "softmax" ? "station here" : "station"}
              aria-expanded={at === index}
              aria-controls="step"
              onClick={() => (open.value = at === index ? null : index)}
            >
              <span class="formula">{formulaOf(step, way, index)}</span>
              <span class="shape">{shapeOf(step)}</span>
            </button>
          </li>
        ))}
      </ol>
      <div id="step" class="explained" aria-live="polite">
        {at === null ? (
          <p class="note">{say("derivationNote")}</p>
        ) : (
          <Explained step={way.steps[at]!} before={way.steps.slice(0, at)} />
        )}
      </div>
    </section>
  );
}

/** A norm that follows attention or the network takes in what was added; one that stands before them does not. */
function isResidual(before: readonly Step[]): boolean {
  const last = before[before.length - 1]?.name;
  return last === "output" || last === "ffn";
}

function formulaOf(step: Step, way: Way, index: number): ComponentChildren {
  switch (step.name) {
    case "input":
      return <i>x</i>;
    case "qkv":
      return (
        <>
          <span class="q">Q</span> <span class="k">K</span> <span class="v">V</span>
        </>
      );
    case "scores":
      return "QKᵀ";
    case "scale":
      return step.shape.startsWith("d") ? "÷ √d" : say("formulaScale");
    case "softcap":
      return say("formulaSoftcap");
    case "bias":
      return say("formulaBias");
    case "mask":
      return say("formulaMask");
    case "softmax":
      return "softmax";
    case "value":
      return (
        <>
          · <span class="v">V</span>
        </>
      );
    case "concat":
      return say("formulaConcat");
    case "output":
      return (
        <>
          W<sub>O</sub>
        </>
      );
    case "norm":
      return isResidual(way.steps.slice(0, index)) ? say("formulaAddNorm") : say("formulaNorm");
    case "ffn":
      return "FFN";
  }
}

function shapeOf(step: Step): string {
  switch (step.name) {
    case "qkv":
      return say("stepEach", { shape: step.shape });
    case "softmax":
      return say("stepRows");
    case "mask":
      return step.shape || say("stepNone");
    default:
      return step.shape;
  }
}

function Explained({ step, before }: { step: Step; before: readonly Step[] }) {
  const { explorer } = usePage();
  const { stack, querySide, keySide, selection } = explorer;
  const answer = explorer.pair.answer.value;
  const pair = answer !== null && answer.question === selection.value ? answer.value : null;
  const names = {
    query: label(querySide.value.tokens[selection.value.query]),
    k: label(keySide.value.tokens[selection.value.key]),
  };
  const norm = (vector: readonly number[]) => fixed(Math.hypot(...vector), 2);
  const number = (value: number) => fixed(value, 2);
  const { heads, head_dim, value_dim, causal } = stack.value;

  const [general, here] = ((): [ComponentChildren, ComponentChildren?] => {
    switch (step.name) {
      case "input":
        return [say("step_input")];
      case "qkv":
        return [
          <Say of="step_qkv" />,
          pair && <Say of="step_qkvHere" {...names} qn={norm(pair.query_vector)} kn={norm(pair.key_vector)} />,
        ];
      case "scores":
        return [<Say of="step_scores" />, pair && <Say of="step_scoresHere" {...names} dot={number(pair.dot)} />];
      case "scale":
        return [
          pair === null || isRootScale(pair.scale, head_dim)
            ? say("step_scale")
            : say("step_scaleOwn", {
                scale: Number(pair.scale.toPrecision(4)),
                textbook: Number((1 / Math.sqrt(head_dim)).toPrecision(4)),
              }),
          pair && say("step_scaleHere", { dot: number(pair.dot), scaled: number(pair.scaled) }),
        ];
      case "softcap":
        return [
          say("step_softcap", { cap: pair?.softcap ?? step.shape }),
          pair && say("step_softcapHere", { scaled: number(pair.scaled), capped: number(pair.capped) }),
        ];
      case "bias":
        return [
          say("step_bias"),
          pair &&
            say("step_biasHere", { capped: number(pair.capped), bias: number(pair.bias), score: number(pair.score) }),
        ];
      case "mask":
        return [
          <>
            {say("step_mask")} {causal ? say("step_maskCausal") : step.shape === "" ? say("step_maskNone") : ""}
          </>,
        ];
      case "softmax":
        return [
          say("step_softmax"),
          pair && !pair.masked && pair.lse !== null && (
            <Say
              of="step_softmaxHere"
              score={number(pair.score)}
              lse={number(pair.lse)}
              weight={weightText(pair.weight)}
            />
          ),
        ];
      case "value": {
        const most = pair && [...pair.links].sort((a, b) => b.weight * b.value_norm - a.weight * a.value_norm)[0];
        return [
          <Say of="step_value" />,
          most && (
            <Say
              of="step_valueHere"
              k={label(keySide.value.tokens[most.key])}
              weight={fixed(most.weight, 2)}
              norm={fixed(most.value_norm, 1)}
            />
          ),
        ];
      }
      case "concat":
        return [say("step_concat", { heads: heads.length, dim: value_dim })];
      case "output":
        return [say("step_output")];
      case "norm":
        return [say(isResidual(before) ? "step_residual" : "step_norm")];
      case "ffn":
        return [say("step_ffn")];
    }
  })();
  return (
    <p>
      {general} {here && <span class="here-too">{here}</span>}
    </p>
  );
}
