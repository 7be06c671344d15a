import { expect, test, vi } from "vitest";
import { ApiFailure, ConnectionLost } from "../src/api/client";
import { backOff, followReply, type Following, type ReplyEvent } from "../src/api/stream";
import { event, messageOf, streamOf } from "./fake_server";

const snapshot = event("snapshot", { message: messageOf("m", null) });
const done = event("done", { message: messageOf("m", null) });

/** Follow through these connections in turn; a connection is its events or the error it throws. */
async function follow(connections: (string[] | Error)[], more: Partial<Following> = {}) {
  const seen: ReplyEvent["name"][] = [];
  const waits: number[] = [];
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  await followReply({
    open: async () => {
      const connection = connections.shift();
      if (connection === undefined) throw new Error("one connection too many");
      if (connection instanceof Error) throw connection;
      return new Response(streamOf(connection));
    },
    onEvent: ({ name }) => seen.push(name),
    waitBeforeRetry: async (milliseconds) => void waits.push(milliseconds),
    onConnected: () => undefined,
    signal: new AbortController().signal,
    ...more,
  });
  return { seen, waits, numLeft: connections.length };
}

test("a broken stream is opened again, and begins with a snapshot again", async () => {
  const { seen, waits, numLeft } = await follow([
    [snapshot, event("content", { text: "a" })],
    new ConnectionLost(),
    new ApiFailure(503, "draining"),
    [snapshot, done],
  ]);
  expect(seen).toEqual(["snapshot", "content", "snapshot", "done"]);
  expect(numLeft).toBe(0);
  // An event resets the back-off: 0.5 s after the break, then 1 s and 2 s.
  expect(waits.map((wait) => Math.floor(wait / 500))).toEqual([1, 2, 4]);
});

test("an event that is cut off by the end of a stream is not taken", async () => {
  const { seen } = await follow([[snapshot, "event: content\ndata: {"], [snapshot, done]]);
  expect(seen).toEqual(["snapshot", "snapshot", "done"]);
});

test("unknown events and keep-alives are passed over", async () => {
  const { seen } = await follow([[": keep-alive\n\n", event("future", {}), snapshot, done]]);
  expect(seen).toEqual(["snapshot", "done"]);
});

test.each([401, 403, 404])("a refusal with %i ends it", async (status) => {
  await expect(follow([new ApiFailure(status, "no")])).rejects.toBeInstanceOf(ApiFailure);
});

test("a stream that falls silent is opened again", async () => {
  let numOpened = 0;
  const { seen } = await follow([], {
    silenceMilliseconds: 20,
    open: async (signal) => {
      numOpened += 1;
      const isSilent = numOpened === 1;
      return new Response(streamOf(isSilent ? [snapshot] : [snapshot, done], isSilent ? signal : null));
    },
  });
  expect(seen).toEqual(["snapshot", "snapshot", "done"]);
});

test("leaving the chat ends it without another try", async () => {
  const left = new AbortController();
  const { seen, waits } = await follow([[snapshot, event("content", { text: "a" })]], {
    signal: left.signal,
    onEvent: () => left.abort(),
  });
  expect(seen).toEqual([]);
  expect(waits).toEqual([]);
});

test("back-off doubles to 15 s, with up to a quarter more", () => {
  expect([0, 1, 2, 3, 4, 5, 50].map((failures) => backOff(failures, () => 0))).toEqual([
    500, 1000, 2000, 4000, 8000, 15000, 15000,
  ]);
  expect(backOff(50, () => 1)).toBe(18750);
});
