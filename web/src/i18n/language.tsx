/** The language of the page: the browser's at first, then what was chosen, remembered. */

import { effect, signal } from "@preact/signals";
import { remembered, remember } from "../memory";
import { type MessageName, type Messages, en } from "./en";
import { type Values, pieces, plain } from "./template";
import { zh } from "./zh";

export type Language = "en" | "zh";

const MESSAGES: Record<Language, Messages> = { en, zh };

export function preferredLanguage(chosen: string | null, browser: readonly string[]): Language {
  if (chosen === "en" || chosen === "zh") return chosen;
  return browser[0]?.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(
  typeof navigator === "undefined" ? "en" : preferredLanguage(remembered("language"), navigator.languages),
);

export function chooseLanguage(choice: Language): void {
  language.value = choice;
  remember("language", choice);
}

export function followLanguage(): void {
  effect(() => {
    document.documentElement.lang = language.value === "zh" ? "zh-Hans" : "en";
  });
}

/** A sentence as plain text, for attributes and for pictures. */
export function say(name: MessageName, values?: Values): string {
  return plain(MESSAGES[language.value][name], values);
}

/** A sentence with its coloured words. */
export function Say({ of, ...values }: { of: MessageName } & Values) {
  return (
    <>
      {pieces(MESSAGES[language.value][of as MessageName], values).map((piece) =>
        piece.meaning === undefined ? piece.text : <span class={`meaning-${piece.meaning}`}>{piece.text}</span>,
      )}
    </>
  );
}
