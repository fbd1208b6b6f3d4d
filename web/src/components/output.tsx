/** What a query's output is made of: weight times length of value, because a weight alone misleads. */

import { usePage } from "../context";
import { fixed, weightText } from "../format";
import { Say, say } from "../i18n/language";
import { label } from "../text";

const SHOWN = 5;
/** Keys that are read with less than this are summed up in one line. */
const LEAST = 0.005;
const BAR = 58;

export function Output() {
  const { explorer } = usePage();
  const answer = explorer.pair.answer.value;
  if (answer === null || answer.question.stack !== explorer.stack.value.name) return null;
  const pair = answer.value;
  const query = label(explorer.querySide.value.tokens[pair.query]);
  const { tokens } = explorer.keySide.value;
  const links = pair.links.filter((link, index) => index === 0 || link.weight >= LEAST).slice(0, SHOWN);
  const rest = 1 - links.reduce((sum, link) => sum + link.weight, 0);
  const most = Math.max(1e-9, ...links.map((link) => link.weight * link.value_norm));
  return (
    <section class={explorer.pair.failure.value === null ? "output" : "output stale"}>
      <h2>
        <Say of="outputTitle" query={query} />
      </h2>
      <p class="note">
        <Say of="outputNote" />
      </p>
      <ul>
        {links.map((link) => (
          <li key={link.key}>
            <button
              type="button"
              class="token-name"
              aria-current={link.key === pair.key}
              onClick={() => explorer.select({ key: link.key })}
            >
              {label(tokens[link.key], 16)}
            </button>
            <span class="bars" aria-hidden="true">
              <span class="bar weight" style={{ width: `${Math.max(1, BAR * link.weight)}px` }} />
              <span
                class="bar value"
                style={{ width: `${Math.max(1, (BAR * link.weight * link.value_norm) / most)}px` }}
              />
            </span>
            <span class="number">
              <span class="meaning-w">{fixed(link.weight, 2)}</span> ×{" "}
              <span class="meaning-v">‖v‖ {fixed(link.value_norm, 1)}</span>
            </span>
          </li>
        ))}
      </ul>
      <p class="note">
        {rest > 0.0005 && tokens.length > links.length && (
          <>{say("outputRest", { count: tokens.length - links.length, weight: weightText(rest) })} · </>
        )}
        {say("outputLength", { norm: fixed(pair.output_norm, 2) })}
      </p>
    </section>
  );
}
