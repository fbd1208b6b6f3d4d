/** Opens the page: the source of answers, the overview, then everything that follows from it. */

import { render } from "preact";
import { App, Opening, OpeningFailed } from "./app";
import type { Page } from "./context";
import { exposeDebugHook } from "./debug";
import { createExplorer, followAddress } from "./explorer";
import { readHash } from "./hash";
import { followLanguage } from "./i18n/language";
import { followKeyboard } from "./keyboard";
import { createMapModel } from "./mapmodel";
import { openSource } from "./source/open";
import "./styles/base.css";
import "./styles/reading.css";
import "./styles/columns.css";
import "./styles/strip.css";
import "./styles/narrow.css";
import { followTheme } from "./theme";

async function open(place: HTMLElement): Promise<void> {
  followTheme();
  followLanguage();
  const patience = setTimeout(() => render(<Opening />, place), 250);
  try {
    const source = openSource();
    const overview = await source.overview();
    const explorer = createExplorer(overview, source, readHash(location.hash, overview));
    const page: Page = { explorer, map: createMapModel(explorer) };
    followAddress(explorer);
    followKeyboard(page);
    exposeDebugHook(page);
    render(<App page={page} />, place);
  } catch (error) {
    render(<OpeningFailed message={error instanceof Error ? error.message : String(error)} />, place);
  } finally {
    clearTimeout(patience);
  }
}

void open(document.getElementById("qkv")!);
