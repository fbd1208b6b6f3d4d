/** Asks the local server, below the page's own address. */

import type {
  Alignment,
  Derivation,
  Head,
  Overview,
  Pair,
  Predictions,
  Problem,
  Row,
  StackName,
  Thumbnails,
  Window,
} from "../contract";
import { floatsOf } from "./binary";
import { AnswerError, ConnectionError, type HeadName, type Source, type Span, type Values } from "./source";

/** Answers worth keeping: moving back and forth between the same words asks nothing twice. */
const KEPT = 256;

export class ServerSource implements Source {
  private readonly answers = new Map<string, Promise<unknown>>();

  constructor(
    private readonly base: string = "api/",
    private readonly ask: typeof fetch = (input, init) => fetch(input, init),
  ) {}

  overview(): Promise<Overview> {
    return this.json("overview");
  }

  thumbnails(stack: StackName): Promise<Values<Thumbnails>> {
    return this.binary("thumbnails", { stack });
  }

  head(head: HeadName): Promise<Head> {
    return this.json("head", { ...head });
  }

  row(head: HeadName, query: number): Promise<Row> {
    return this.json("row", { ...head, query });
  }

  pair(head: HeadName, query: number, key: number): Promise<Pair> {
    return this.json("pair", { ...head, query, key });
  }

  window(head: HeadName, rows: Span, columns: Span, side: number): Promise<Values<Window>> {
    return this.binary("window", { ...head, rows: rows.join(":"), columns: columns.join(":"), side });
  }

  derivation(stack: StackName, layer: number): Promise<Derivation> {
    return this.json("derivation", { stack, layer });
  }

  predictions(position: number): Promise<Predictions> {
    return this.json("predictions", { position });
  }

  alignment(rows: Span): Promise<Alignment> {
    return this.json("alignment", { rows: rows.join(":") });
  }

  private json<T>(route: string, query: Record<string, string | number> = {}): Promise<T> {
    return this.kept(route, query, (response) => response.json() as Promise<T>);
  }

  private binary<Header>(route: string, query: Record<string, string | number>): Promise<Values<Header>> {
    return this.kept(route, query, async (response) => {
      const header = JSON.parse(response.headers.get("x-qkv-header") ?? "null") as Header;
      return { header, values: floatsOf(await response.arrayBuffer()) };
    });
  }

  /** The answer, from before where there is one; a failure is not kept. */
  private kept<T>(
    route: string,
    query: Record<string, string | number>,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    const text = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)])).toString();
    const address = `${this.base}${route}${text === "" ? "" : `?${text}`}`;
    const before = this.answers.get(address) as Promise<T> | undefined;
    if (before !== undefined) {
      this.answers.delete(address);
      this.answers.set(address, before);
      return before;
    }
    const answer = this.fetch(address).then(read);
    this.answers.set(address, answer);
    answer.catch(() => this.answers.delete(address));
    const [oldest] = this.answers.keys();
    if (this.answers.size > KEPT && oldest !== undefined) this.answers.delete(oldest);
    return answer;
  }

  private async fetch(address: string): Promise<Response> {
    let response: Response;
    try {
      response = await this.ask(address);
    } catch (cause) {
      throw new ConnectionError("the server does not answer", { cause });
    }
    if (response.ok) return response;
    const problem = (await response.json().catch(() => null)) as Problem | null;
    throw new AnswerError(problem?.error ?? `the server answered ${response.status}`);
  }
}
