/**
 * An answer that follows a question.
 *
 * While one question is on its way, newer ones replace each other and only the newest is asked next: a pointer that
 * sweeps over a hundred words costs a few requests, and what is shown is never older than one answer. The last answer
 * stays until the next is there, so nothing flickers.
 */

import { type ReadonlySignal, effect, signal } from "@preact/signals";
import { ConnectionError } from "./source/source";

export interface Answer<Question, Value> {
  readonly question: Question;
  readonly value: Value;
}

export interface Resource<Question, Value> {
  readonly answer: ReadonlySignal<Answer<Question, Value> | null>;
  readonly busy: ReadonlySignal<boolean>;
  /** Why the newest question has no answer. */
  readonly failure: ReadonlySignal<string | null>;
}

/** Whether the last request found nobody to answer. */
export const disconnected = signal(false);
/** Raised by "Try again": every question that has no answer is asked once more. */
export const attempt = signal(0);

export function resource<Question, Value>(
  question: ReadonlySignal<Question | null>,
  load: (question: Question) => Promise<Value>,
): Resource<Question, Value> {
  const answer = signal<Answer<Question, Value> | null>(null);
  const busy = signal(false);
  const failure = signal<string | null>(null);
  let running = false;
  let waiting: Question | null = null;

  async function run(asked: Question): Promise<void> {
    running = true;
    busy.value = true;
    let next: Question | null = asked;
    while (next !== null) {
      const current: Question = next;
      waiting = null;
      try {
        const value = await load(current);
        disconnected.value = false;
        failure.value = null;
        answer.value = { question: current, value };
      } catch (error) {
        if (error instanceof ConnectionError) disconnected.value = true;
        failure.value = error instanceof Error ? error.message : String(error);
      }
      next = waiting;
    }
    running = false;
    busy.value = false;
  }

  effect(() => {
    const asked = question.value;
    attempt.value;
    if (asked === null) return;
    if (running) waiting = asked;
    else if (answer.peek()?.question !== asked || failure.peek() !== null) void run(asked);
  });

  return { answer, busy, failure };
}
