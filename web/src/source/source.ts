/** Where answers come from: a server, or the page itself. Both give the same ones. */

import type { Alignment, Derivation, Head, Overview, Pair, Predictions, Row, StackName, Thumbnails, Window } from "../contract";

/** A header of the contract and the numbers that follow it. */
export interface Values<Header> {
  readonly header: Header;
  readonly values: Float32Array;
}

export interface HeadName {
  readonly stack: StackName;
  readonly layer: number;
  readonly head: number;
}

/** From, inclusive, to, exclusive. */
export type Span = readonly [number, number];

export interface Source {
  overview(): Promise<Overview>;
  thumbnails(stack: StackName): Promise<Values<Thumbnails>>;
  head(head: HeadName): Promise<Head>;
  row(head: HeadName, query: number): Promise<Row>;
  pair(head: HeadName, query: number, key: number): Promise<Pair>;
  window(head: HeadName, rows: Span, columns: Span, side: number): Promise<Values<Window>>;
  derivation(stack: StackName, layer: number): Promise<Derivation>;
  predictions(position: number): Promise<Predictions>;
  /** Of the written words that begin within these rows. */
  alignment(rows: Span): Promise<Alignment>;
}

/** The question was understood and has no answer; `message` is the server's own. */
export class AnswerError extends Error {
  override readonly name = "AnswerError";
}

/** Nobody answers. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
}
