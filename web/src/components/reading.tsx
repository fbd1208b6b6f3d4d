/** The text itself, on top: ask a word, and the others take the ink of the weight with which it reads them. */

import { aligns } from "../aligned";
import { usePage } from "../context";
import type { Overview, Side } from "../contract";
import { Say, say } from "../i18n/language";
import { touch } from "../touch";
import { LONG_TEXT, label } from "../text";
import { theme } from "../theme";
import { stackName } from "./header";
import { Search } from "./search";
import { TextPane } from "./textpane";

export function Reading() {
  const { explorer } = usePage();
  const querySide = explorer.querySide.value;
  const keySide = explorer.keySide.value;
  const { stack, layer, head } = explorer.selection.value;
  const long = querySide.tokens.length > LONG_TEXT || keySide.tokens.length > LONG_TEXT;
  const aligned = explorer.aligned.known.value.some(({ words }) => words.length > 0);
  const generated = querySide.tokens.some((token) => token.generated);
  return (
    <section class="reading" aria-label={say("text")}>
      <div class="reading-head">
        <p class="note">
          <Say
            of={touch.matches ? "readingTouch" : "reading"}
            head={named(explorer.overview, stack, layer, head)}
            query={label(querySide.tokens[explorer.query.value])}
            more={say(theme.value === "dark" ? "brighter" : "darker")}
          />
          {generated && <> {say("readingGenerated")}</>}
        </p>
        <Search />
      </div>
      {querySide === keySide ? (
        <TextPane key={querySide.name} side={querySide} asks reads long={long} />
      ) : (
        <>
          <p class="side-name note">
            <Say of="readingQueries" side={sideName(querySide)} />
            {aligned && (
              <>
                {" · "}
                <Say of="readingGloss" />
              </>
            )}
          </p>
          <TextPane
            key={`${querySide.name} asks`}
            side={querySide}
            asks
            reads={false}
            long={long}
            glossedBy={aligns(explorer.overview) ? keySide : null}
          />
          <p class="side-name note">
            <Say of="readingKeys" side={sideName(keySide)} />
            {aligned && <> · {say("readingAligned")}</>}
          </p>
          <TextPane key={`${keySide.name} reads`} side={keySide} asks={false} reads long={long} />
        </>
      )}
    </section>
  );
}

function named(overview: Overview, stack: string, layer: number, head: number): string {
  const place = say("layerHead", { layer, head });
  return overview.stacks.length > 1 ? `${stackName(stack)} · ${place}` : place;
}

function sideName(side: Side): string {
  return say(side.name === "target" ? "sideTarget" : "sideInput");
}
