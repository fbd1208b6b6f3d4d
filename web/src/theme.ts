/** Light or dark paper: the system's until somebody chooses, then what was chosen, remembered. */

import { computed, effect, signal } from "@preact/signals";
import { PALETTES, type Theme } from "./draw/ink";
import { remember, remembered } from "./memory";

const system = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(system.matches);
system.addEventListener("change", () => (systemIsDark.value = system.matches));

const stored = remembered("theme");
const chosen = signal<Theme | null>(stored === "light" || stored === "dark" ? stored : null);

export const theme = computed<Theme>(() => chosen.value ?? (systemIsDark.value ? "dark" : "light"));
export const palette = computed(() => PALETTES[theme.value]);

export function toggleTheme(): void {
  chosen.value = theme.value === "dark" ? "light" : "dark";
  remember("theme", chosen.value);
}

export function followTheme(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
  });
}
