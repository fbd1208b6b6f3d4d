import { usePage } from "../context";
import type { Overview } from "../contract";
import { type Language, chooseLanguage, language, say } from "../i18n/language";
import { theme, toggleTheme } from "../theme";

export function Wordmark() {
  return (
    <span class="wordmark" role="img" aria-label="qkv">
      <span class="q">q</span>
      <span class="k">k</span>
      <span class="v">v</span>
    </span>
  );
}

export function Header() {
  const { overview } = usePage().explorer;
  return (
    <header class="header">
      <h1>
        <Wordmark />
      </h1>
      <p class="about">{about(overview)}</p>
      <Languages />
      <ThemeToggle />
    </header>
  );
}

/** "MiniLM-L6 · 6 layers × 12 heads · 15 tokens" */
function about(overview: Overview): string {
  const kinds = overview.stacks.map((stack) => {
    const size = say("layersHeads", { layers: stack.layers.length, heads: stack.heads.length });
    return overview.stacks.length === 1
      ? size
      : `${stackName(stack.name)} ${stack.layers.length} × ${stack.heads.length}`;
  });
  const [input, target] = overview.sides.map((side) => side.tokens.length);
  const tokens =
    target === undefined
      ? say("tokens", { count: input!.toLocaleString("en") })
      : say("tokensTwo", { input: input!, target });
  return [overview.title, ...kinds, tokens].join(" · ");
}

export function stackName(name: string): string {
  return say(name === "encoder" ? "stackEncoder" : name === "decoder" ? "stackDecoder" : "stackCross");
}

const LANGUAGES: readonly (readonly [Language, string, string])[] = [
  ["en", "EN", "en"],
  ["zh", "中文", "zh-Hans"],
];

function Languages() {
  return (
    <div class="languages" role="group" aria-label={say("switchLanguage")}>
      {LANGUAGES.map(([name, text, lang], index) => (
        <>
          {index > 0 && <span aria-hidden="true"> · </span>}
          <button
            type="button"
            class="link"
            lang={lang}
            aria-pressed={language.value === name}
            onClick={() => chooseLanguage(name)}
          >
            {text}
          </button>
        </>
      ))}
    </div>
  );
}

function ThemeToggle() {
  const text = say(theme.value === "dark" ? "toLight" : "toDark");
  return (
    <button type="button" class="theme" aria-label={text} title={text} onClick={toggleTheme}>
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <circle cx="8" cy="8" r="6" fill="none" stroke="currentColor" stroke-width="1.2" />
        <path d="M8 2a6 6 0 0 0 0 12z" fill="currentColor" />
      </svg>
    </button>
  );
}
