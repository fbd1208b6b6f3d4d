/** One token of a text; spans are made once, and what changes about them are styles and classes. */

import type { Token } from "../contract";

export function TokenSpan({ token, before, index }: { token: Token; before: Token | undefined; index: number }) {
  const breaks = token.text.includes("\n");
  return (
    <>
      <span class={tokenClass(token, before)} data-i={index}>
        {breaks ? token.text.replaceAll("\n", "↵") : token.text}
      </span>
      {breaks ? <br /> : null}
    </>
  );
}

function tokenClass(token: Token, before: Token | undefined): string {
  const piece = !token.space && before !== undefined && token.word >= 0 && token.word === before.word;
  return `token${token.special ? " special" : ""}${token.generated ? " generated" : ""}${piece ? " piece" : ""}`;
}
