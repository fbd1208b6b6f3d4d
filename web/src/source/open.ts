import type { Embedded } from "../contract";
import { EmbeddedSource } from "./embedded";
import { ServerSource } from "./server";
import type { Source } from "./source";

/** The page's own data where it carries some, else the server that it came from. */
export function openSource(page: Document = document): Source {
  const data = page.getElementById("qkv-data")?.textContent;
  return data ? new EmbeddedSource(JSON.parse(data) as Embedded) : new ServerSource();
}
