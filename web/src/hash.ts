/** The selection in the address, so that a view can be reloaded and shared: `#stack=encoder&layer=3&head=1&query=10&key=2`. */

import type { Overview, Selection, Side, Stack } from "./contract";

export function writeHash(selection: Selection): string {
  const { stack, layer, head, query, key } = selection;
  return `#stack=${stack}&layer=${layer}&head=${head}&query=${query}&key=${key}`;
}

/** The selection that an address asks for, as far as the trace has it; what is missing or wrong comes from the opening. */
export function readHash(hash: string, overview: Overview): Selection {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  const whole = (name: string) => (/^\d+$/.test(asked.get(name) ?? "") ? Number(asked.get(name)) : undefined);
  const wanted = {
    stack: asked.get("stack") ?? undefined,
    layer: whole("layer"),
    head: whole("head"),
    query: whole("query"),
    key: whole("key"),
  };
  return fit(wanted, overview.opening, overview);
}

/** `asked`, completed by `otherwise` and kept within what the trace has. */
export function fit(
  asked: { [Name in keyof Selection]?: Selection[Name] | string | undefined },
  otherwise: Selection,
  overview: Overview,
): Selection {
  const stack =
    overview.stacks.find((candidate) => candidate.name === asked.stack) ?? stackOf(overview, otherwise.stack);
  const same = stack.name === otherwise.stack;
  const among = (choices: readonly number[], value: unknown, before: number) =>
    choices.find((choice) => choice === value) ?? (same && choices.includes(before) ? before : choices[0]!);
  const below = (length: number, value: unknown, before: number) =>
    typeof value === "number" && value >= 0 && value < length ? value : Math.max(0, Math.min(before, length - 1));
  return {
    stack: stack.name,
    layer: among(stack.layers, asked.layer, otherwise.layer),
    head: among(stack.heads, asked.head, otherwise.head),
    query: below(sideOf(overview, stack.query_side).tokens.length, asked.query, otherwise.query),
    key: below(sideOf(overview, stack.key_side).tokens.length, asked.key, otherwise.key),
  };
}

export function stackOf(overview: Overview, name: string): Stack {
  return overview.stacks.find((stack) => stack.name === name) ?? overview.stacks[0]!;
}

export function sideOf(overview: Overview, name: string): Side {
  return overview.sides.find((side) => side.name === name) ?? overview.sides[0]!;
}
