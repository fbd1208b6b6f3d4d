/** This head in figures, with their units and one sentence each. */

import { signal } from "@preact/signals";
import { usePage } from "../context";
import type { HeadFigures } from "../contract";
import { fixed } from "../format";
import { say } from "../i18n/language";
import type { MessageName } from "../i18n/en";
import { stackName } from "./header";

interface Figure {
  readonly name: MessageName;
  readonly note: MessageName;
  readonly value: number;
  /** What a full bar stands for. */
  readonly most: number;
  readonly digits: number;
  readonly unit?: MessageName;
}

/** The figure whose sentence is shown. */
const explained = signal<MessageName | null>(null);

export function Figures() {
  const { explorer } = usePage();
  const { overview } = explorer;
  const shown = explorer.preview.value ?? explorer.selection.value;
  const stack = overview.stacks.find((candidate) => candidate.name === shown.stack)!;
  const figures = stack.figures[stack.layers.indexOf(shown.layer)]?.[stack.heads.indexOf(shown.head)];
  const keys = overview.sides.find((side) => side.name === stack.key_side)!.tokens.length;
  if (figures === undefined) return null;
  const bits = fixed(Math.log2(Math.max(1, keys)), 1);
  return (
    <div class="figures">
      <h2>
        {say("thisHead")}{" "}
        <span class="of">
          {overview.stacks.length > 1 && `${stackName(stack.name)} · `}
          {say("layerHead", { layer: shown.layer, head: shown.head })}
        </span>
      </h2>
      <dl>
        {figuresOf(figures, keys, stack.query_side === stack.key_side).map(
          ({ name, note, value, most, digits, unit }) => (
            <div class="figure" key={name}>
              <dt>
                <button
                  type="button"
                  aria-expanded={explained.value === name}
                  title={say(note, { bits })}
                  onClick={() => (explained.value = explained.value === name ? null : name)}
                >
                  {say(name)}
                </button>
              </dt>
              <dd>
                <span class="bar weight" style={{ width: `${Math.max(2, 44 * Math.min(1, value / most))}px` }} />
                <span class="number">
                  {fixed(value, digits)}
                  {unit && ` ${say(unit)}`}
                </span>
              </dd>
              {explained.value === name && <dd class="note">{say(note, { bits })}</dd>}
            </div>
          ),
        )}
      </dl>
    </div>
  );
}

/** Where one text reads another there is no neighbour and no distance. */
function figuresOf(figures: HeadFigures, keys: number, own: boolean): Figure[] {
  const share = { most: 1, digits: 2 } as const;
  const found: Figure[] = [
    {
      name: "entropy",
      note: "entropyNote",
      value: figures.entropy,
      most: Math.max(1, Math.log2(keys)),
      digits: 2,
      unit: "bits",
    },
    { name: "first", note: "firstNote", value: figures.first, ...share },
  ];
  if (own) {
    found.push({ name: "previous", note: "previousNote", value: figures.previous, ...share });
    found.push({ name: "nextToken", note: "nextNote", value: figures.next, ...share });
    found.push({
      name: "distance",
      note: "distanceNote",
      value: figures.distance,
      most: Math.max(1, keys / 2),
      digits: 1,
      unit: "tokensUnit",
    });
  }
  if (figures.induction !== null)
    found.push({ name: "induction", note: "inductionNote", value: figures.induction, ...share });
  return found;
}
