import { effect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { DerivationStrip } from "./components/derivation";
import { Header, Wordmark } from "./components/header";
import { Heads } from "./components/heads";
import { Keys, keysOpen } from "./components/keys";
import { MapView } from "./components/map";
import { Output } from "./components/output";
import { NextTokens } from "./components/predictions";
import { Reading } from "./components/reading";
import { Why } from "./components/why";
import { type Page, PageContext, usePage } from "./context";
import { say } from "./i18n/language";
import { attempt, disconnected } from "./resource";

export function App({ page }: { page: Page }) {
  useEffect(
    () => effect(() => void (document.title = say("documentTitle", { model: page.explorer.overview.title }))),
    [page],
  );
  return (
    <PageContext.Provider value={page}>
      <Header />
      {disconnected.value && <Disconnected />}
      <main>
        <Reading />
        <div class="columns">
          <Heads />
          <MapView />
          <div class="reasons">
            <Why />
            <Output />
            <NextTokens />
          </div>
        </div>
        <DerivationStrip />
      </main>
      <Footer />
      <Keys />
    </PageContext.Provider>
  );
}

function Disconnected() {
  return (
    <p class="notice" role="status">
      {say("disconnected")}{" "}
      <button type="button" class="link" onClick={() => attempt.value++}>
        {say("retry")}
      </button>
    </p>
  );
}

function Footer() {
  const { overview } = usePage().explorer;
  return (
    <footer class="footer note">
      <span>qkv {overview.version}</span>
      <button type="button" class="link" onClick={() => (keysOpen.value = true)}>
        {say("keys")} <kbd>?</kbd>
      </button>
    </footer>
  );
}

export function Opening() {
  return (
    <div class="opening" role="status">
      <Wordmark />
      <p class="note">{say("opening")}</p>
    </div>
  );
}

export function OpeningFailed({ message }: { message: string }) {
  return (
    <div class="opening" role="alert">
      <Wordmark />
      <p>{say("openingFailed", { message })}</p>
      <button type="button" class="link" onClick={() => location.reload()}>
        {say("retry")}
      </button>
    </div>
  );
}
