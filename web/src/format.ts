/** How numbers are written. */

/** Fixed digits with a true minus sign, so that columns of figures line up and read well. */
export function fixed(value: number, digits: number): string {
  const text = value.toFixed(digits);
  return Number(text) < 0 ? `−${text.slice(1)}` : text.replace(/^-/, "");
}

/** A weight inside a cell: ".64", and "1" for a whole one. */
export function cellWeight(weight: number): string {
  const text = weight.toFixed(2);
  return text.startsWith("1") ? "1" : text.slice(1);
}

/** A weight in a sentence: three digits, and below a thousandth two significant ones. */
export function weightText(weight: number): string {
  if (weight === 0) return "0";
  if (weight >= 0.001) return weight.toFixed(3);
  return weight >= 1e-4
    ? weight.toFixed(5)
    : weight
        .toExponential(1)
        .replace("e-", " × 10⁻")
        .replace(/⁻(\d+)$/, (_, digits: string) => `⁻${superscript(digits)}`);
}

/** A quantity of any size with about three significant digits. */
export function quantity(value: number): string {
  const size = Math.abs(value);
  return fixed(value, size >= 1000 ? 0 : size >= 100 ? 1 : 2);
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(1)}%`;
}

function superscript(digits: string): string {
  return [...digits].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]).join("");
}

/** Whether a scale is the textbook's 1/√d (within float32). */
export function isRootScale(scale: number, headDim: number): boolean {
  return Math.abs(scale * Math.sqrt(headDim) - 1) < 1e-4;
}
