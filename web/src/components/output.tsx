/** What a query's output is made of: weight times length of value, because a weight alone misleads. */

import { usePage } from "../context";
import type { Pair } from "../contract";
import { fixed, weightText } from "../format";
import { Say, say } from "../i18n/language";
import { label } from "../text";

const SHOWN = 5;
const BAR = 58;

export function Output({ pair, query }: { pair: Pair; query: string }) {
  const { explorer } = usePage();
  const { tokens } = explorer.keySide.value;
  const links = pair.links.slice(0, SHOWN);
  const rest = 1 - links.reduce((sum, link) => sum + link.weight, 0);
  const most = Math.max(1e-9, ...links.map((link) => link.weight * link.value_norm));
  return (
    <div class="output">
      <h2>
        <Say of="outputTitle" query={query} />
      </h2>
      <p class="note">
        <Say of="outputNote" />
      </p>
      <ul>
        {links.map((link) => (
          <li key={link.key}>
            <button type="button" class="token-name" aria-current={link.key === pair.key} onClick={() => explorer.select({ key: link.key })}>
              {label(tokens[link.key], 16)}
            </button>
            <span class="bars" aria-hidden="true">
              <span class="bar weight" style={{ width: `${Math.max(1, BAR * link.weight)}px` }} />
              <span class="bar value" style={{ width: `${Math.max(1, (BAR * link.weight * link.value_norm) / most)}px` }} />
            </span>
            <span class="number">
              <span class="meaning-w">{fixed(link.weight, 2)}</span> × <span class="meaning-v">‖v‖ {fixed(link.value_norm, 1)}</span>
            </span>
          </li>
        ))}
      </ul>
      <p class="note">
        {rest > 0.005 && tokens.length > links.length && <>{say("outputRest", { count: tokens.length - links.length, weight: weightText(rest) })} · </>}
        {say("outputLength", { norm: fixed(pair.output_norm, 2) })}
      </p>
    </div>
  );
}
