/**
 * Templates of the two languages: `{name}` takes a value, `{name|day|days}` a number and the noun that it counts,
 * `[q:words]` gives words a meaning's colour.
 */

export type Meaning = "q" | "k" | "v" | "w";
export type Values = Record<string, string | number>;

export interface Piece {
  readonly text: string;
  readonly meaning?: Meaning;
}

const PLACE = /\{(\w+)(?:\|([^|}]*)\|([^|}]*))?\}/g;

/** Fill in the values; they are never read as markup themselves. */
export function pieces(template: string, values: Values = {}): Piece[] {
  const filled = (text: string) =>
    text.replace(PLACE, (whole, name: string, one?: string, many?: string) => {
      if (!(name in values)) return whole;
      const value = String(values[name]);
      return one === undefined ? value : `${value} ${value === "1" ? one : many}`;
    });
  const found: Piece[] = [];
  let end = 0;
  for (const match of template.matchAll(/\[([qkvw]):([^\]]*)\]/g)) {
    if (match.index > end) found.push({ text: filled(template.slice(end, match.index)) });
    found.push({ text: filled(match[2]!), meaning: match[1] as Meaning });
    end = match.index + match[0].length;
  }
  if (end < template.length) found.push({ text: filled(template.slice(end)) });
  return found;
}

export function plain(template: string, values: Values = {}): string {
  return pieces(template, values)
    .map((piece) => piece.text)
    .join("");
}

/** The names of a template's values and meanings, in order: what two languages must share. */
export function places(template: string): string[] {
  return [...template.matchAll(/\{(\w+)[|}]|\[([qkvw]):/g)].map((match) => match[1] ?? match[2]!).sort();
}
