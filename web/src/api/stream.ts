/** Following a reply: its stream, opened again until the reply is done. */
import { ApiFailure } from "./client";
import { EventParser } from "./sse";
import type { StreamEvents } from "./types";

export type ReplyEvent = {
  [Name in keyof StreamEvents]: { name: Name } & StreamEvents[Name];
}[keyof StreamEvents];

export interface Following {
  open: (signal: AbortSignal) => Promise<Response>;
  onEvent: (event: ReplyEvent) => void;
  /** The stream broke; wait about this long before the next try. */
  waitBeforeRetry: (milliseconds: number, signal: AbortSignal) => Promise<void>;
  onConnected: () => void;
  signal: AbortSignal;
  /** The server sends a comment when it has nothing else; longer silence is a dead connection. */
  silenceMilliseconds?: number;
}

const EVENT_NAMES = ["snapshot", "sources", "reasoning", "content", "saved", "done"] as const;
const LONGEST_WAIT_MILLISECONDS = 15_000;

/**
 * Follow a reply to its end. Each connection begins with a snapshot, so nothing is asked for twice.
 * Throws ApiFailure when the server refuses for good (an unknown message, a wrong key).
 */
export async function followReply(following: Following): Promise<void> {
  let failures = 0;
  while (!following.signal.aborted) {
    const hasHeard = () => {
      failures = 0;
    };
    if (await readOnce(following, hasHeard)) return;
    if (following.signal.aborted) return;
    await following.waitBeforeRetry(backOff(failures), following.signal);
    failures += 1;
  }
}

/** 0.5 s doubling to 15 s, with up to a quarter added so that many pages do not knock at once. */
export function backOff(failures: number, random: () => number = Math.random): number {
  const wait = Math.min(LONGEST_WAIT_MILLISECONDS, 500 * 2 ** failures);
  return Math.round(wait * (1 + random() / 4));
}

/** Whether the reply came to its end on this connection. */
async function readOnce(following: Following, hasHeard: () => void): Promise<boolean> {
  const connection = new AbortController();
  const abort = () => connection.abort();
  following.signal.addEventListener("abort", abort);
  const silence = following.silenceMilliseconds ?? 60_000;
  let alarm = setTimeout(abort, silence);
  try {
    const response = await following.open(connection.signal);
    const reader = response.body?.getReader();
    if (!reader) return false;
    following.onConnected();
    const parser = new EventParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      clearTimeout(alarm);
      alarm = setTimeout(abort, silence);
      for (const { name, data } of parser.push(value)) {
        const event = readEvent(name, data);
        if (!event) continue;
        hasHeard();
        following.onEvent(event);
        if (event.name === "done") return true;
      }
    }
  } catch (error) {
    if (isFinal(error)) throw error;
    if (!connection.signal.aborted) console.warn("the stream of the reply broke", error);
    return false;
  } finally {
    clearTimeout(alarm);
    following.signal.removeEventListener("abort", abort);
    connection.abort();
  }
}

function readEvent(name: string, data: string): ReplyEvent | null {
  if (!EVENT_NAMES.some((known) => known === name)) return null;
  return { ...(JSON.parse(data) as object), name } as ReplyEvent;
}

/** A refusal that another try would only repeat. */
function isFinal(error: unknown): boolean {
  if (!(error instanceof ApiFailure)) return false;
  return error.status < 500 && error.status !== 429 && error.status !== 408;
}
