/** The list of keys, in a dialog that the browser itself can close with Esc. */

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { say } from "../i18n/language";
import type { MessageName } from "../i18n/en";

export const keysOpen = signal(false);

const KEYS: readonly (readonly [string, MessageName])[] = [
  ["← ↑ ↓ →", "keyArrows"],
  ["[ ]", "keyBrackets"],
  ["{ }", "keyBraces"],
  ["/", "keySlash"],
  ["+ − 0", "keyZoom"],
  ["t", "keyTheme"],
  ["?", "keyHelp"],
  ["Esc", "keyEscape"],
];

export function Keys() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (keysOpen.value) dialog.current!.showModal();
    else dialog.current!.close();
  }, [keysOpen.value]);
  return (
    <dialog
      ref={dialog}
      class="keys"
      aria-label={say("keysTitle")}
      onClose={() => (keysOpen.value = false)}
      onClick={(event) => event.target === dialog.current && (keysOpen.value = false)}
    >
      <div>
        <h2>{say("keysTitle")}</h2>
        <dl>
          {KEYS.map(([keys, meaning]) => (
            <div key={keys}>
              <dt>
                <kbd>{keys}</kbd>
              </dt>
              <dd>{say(meaning)}</dd>
            </div>
          ))}
        </dl>
        <button type="button" class="link" onClick={() => (keysOpen.value = false)}>
          {say("close")}
        </button>
      </div>
    </dialog>
  );
}
