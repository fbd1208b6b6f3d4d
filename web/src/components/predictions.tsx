/** What a decoder would write next after the chosen query. */

import { usePage } from "../context";
import { percent } from "../format";
import { Say, say } from "../i18n/language";
import { label } from "../text";

export function NextTokens() {
  const { explorer } = usePage();
  const answer = explorer.predictions.answer.value;
  if (!explorer.overview.predicts || explorer.stack.value.name !== "decoder" || answer === null) return null;
  const most = Math.max(1e-9, ...answer.value.candidates.map((candidate) => candidate.probability));
  return (
    <section class="next">
      <h2>
        <Say of="nextTitle" query={label(explorer.querySide.value.tokens[answer.value.position])} />
      </h2>
      <p class="note">{say("nextTitleNote")}</p>
      <ol>
        {answer.value.candidates.map((candidate, index) => (
          <li key={index}>
            <span class="candidate">{label(candidate)}</span>
            <span class="bar ink" style={{ width: `${Math.max(1, (90 * candidate.probability) / most)}px` }} />
            <span class="number">{percent(candidate.probability)}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}
