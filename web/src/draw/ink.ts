/**
 * Colours, and how a weight becomes ink.
 *
 * Query blue, key vermilion, value green and one violet for weights; nothing else is coloured. `query`, `key` and `value`
 * fill bars; small words use `queryText`, `keyText` and `valueText`, the same hues as dark as 4.5:1 on paper asks for.
 */

export type Theme = "light" | "dark";
export type RGB = readonly [number, number, number];

export interface Palette {
  readonly theme: Theme;
  readonly paper: string;
  readonly text: string;
  readonly soft: string;
  readonly hairline: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly queryText: string;
  readonly keyText: string;
  readonly valueText: string;
  readonly weight: string;
}

export const PALETTES: Record<Theme, Palette> = {
  light: {
    theme: "light",
    paper: "#FBFAF6",
    text: "#1D1C1A",
    soft: "#6B675F",
    hairline: "#E4E0D6",
    query: "#0072B2",
    key: "#D55E00",
    value: "#009E73",
    queryText: "#0072B2",
    keyText: "#BB5300",
    valueText: "#00825F",
    weight: "#4B2E83",
  },
  dark: {
    theme: "dark",
    paper: "#141414",
    text: "#ECEAE4",
    soft: "#9A968C",
    hairline: "#2C2B29",
    query: "#56B4E9",
    key: "#F0894A",
    value: "#3FC79A",
    queryText: "#56B4E9",
    keyText: "#F0894A",
    valueText: "#3FC79A",
    weight: "#B79BFF",
  },
};

/** Weights span orders of magnitude; this power keeps the low end visible. */
export const INK_POWER = 0.6;

/** How much of the full ink a weight gets, 0 to 1. */
export function inkOf(weight: number): number {
  return weight <= 0 ? 0 : weight >= 1 ? 1 : weight ** INK_POWER;
}

export function parseHex(hex: string): RGB {
  const value = Number.parseInt(hex.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

/** `from` with a share of `to` in it. */
export function mix(from: RGB, to: RGB, share: number): RGB {
  const at = (channel: 0 | 1 | 2) => Math.round(from[channel] + (to[channel] - from[channel]) * share);
  return [at(0), at(1), at(2)];
}

export function css(colour: RGB): string {
  return `rgb(${colour[0]}, ${colour[1]}, ${colour[2]})`;
}

/** Relative luminance as WCAG defines it. */
export function luminance(colour: RGB): number {
  const linear = (channel: number) => {
    const share = channel / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2]);
}

export function contrast(one: RGB, other: RGB): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

/** The paper of a cell with a weight on it. */
export function inkColour(weight: number, palette: Palette): RGB {
  return mix(parseHex(palette.paper), parseHex(palette.weight), inkOf(weight));
}

/** The colour of the word that another one came from, on paper: a weak one has less of the key's colour, not less contrast. */
export function glossColour(weight: number, palette: Palette): RGB {
  return mix(parseHex(palette.soft), parseHex(palette.keyText), inkOf(weight));
}

/** The better readable of text and paper on a background. */
export function readableOn(background: RGB, palette: Palette): string {
  const text = contrast(parseHex(palette.text), background);
  const paper = contrast(parseHex(palette.paper), background);
  return paper > text ? palette.paper : palette.text;
}

const STEPS = 4096;
const tables = new Map<Theme, Uint8ClampedArray>();

/** RGB of `STEPS` weights from 0 to 1, for pictures with a pixel a cell. */
function table(palette: Palette): Uint8ClampedArray {
  let found = tables.get(palette.theme);
  if (found === undefined) {
    found = new Uint8ClampedArray(STEPS * 3);
    for (let step = 0; step < STEPS; step++) found.set(inkColour(step / (STEPS - 1), palette), step * 3);
    tables.set(palette.theme, found);
  }
  return found;
}

/** Write weights as opaque RGBA pixels. */
export function paintInk(values: Float32Array, palette: Palette): Uint8ClampedArray<ArrayBuffer> {
  const colours = table(palette);
  const pixels = new Uint8ClampedArray(values.length * 4);
  for (let index = 0; index < values.length; index++) {
    const weight = values[index]!;
    const at = weight > 0 ? Math.min(STEPS - 1, Math.round(weight * (STEPS - 1))) * 3 : 0;
    pixels[index * 4] = colours[at]!;
    pixels[index * 4 + 1] = colours[at + 1]!;
    pixels[index * 4 + 2] = colours[at + 2]!;
    pixels[index * 4 + 3] = 255;
  }
  return pixels;
}
