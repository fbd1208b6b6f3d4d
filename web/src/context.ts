import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Explorer } from "./explorer";
import type { MapModel } from "./mapmodel";

export interface Page {
  readonly explorer: Explorer;
  readonly map: MapModel;
}

export const PageContext = createContext<Page | null>(null);

export function usePage(): Page {
  const page = useContext(PageContext);
  if (page === null) throw new Error("a component of the explorer stands outside its page");
  return page;
}
