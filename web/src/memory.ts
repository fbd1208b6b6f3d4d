/** Small choices that outlive a visit; where storage is forbidden (some pages opened from a file) nothing is kept. */

export function remembered(name: string): string | null {
  try {
    return localStorage.getItem(`qkv.${name}`);
  } catch {
    return null;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`qkv.${name}`, value);
  } catch {
    // The choice holds for this visit.
  }
}
