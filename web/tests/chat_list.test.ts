import { expect, test, vi } from "vitest";
import { Api } from "../src/api/client";
import type { Chat } from "../src/api/types";
import { ChatList, groupByDay, toDate } from "../src/state/chat_list";
import { Notices } from "../src/state/notices";
import { FakeServer } from "./fake_server";

function chatOf(id: string, updated: Date, is_pinned = false): Chat {
  const time = updated.getTime() / 1000;
  return { id, title: id, is_pinned, created_at: time, updated_at: time, leaf_id: null };
}

test("days are the calendar's, not spans of 24 hours", () => {
  const now = new Date(2026, 2, 30, 0, 30);
  const chats = [
    chatOf("pinned", new Date(2020, 0, 1), true),
    chatOf("now", now),
    chatOf("an hour ago", new Date(2026, 2, 29, 23, 30)),
    chatOf("2 days", new Date(2026, 2, 28, 23, 59)),
    chatOf("7 days", new Date(2026, 2, 23, 0, 1)),
    chatOf("8 days", new Date(2026, 2, 22, 23, 59)),
    chatOf("31 days", new Date(2026, 1, 27, 12)),
    chatOf("a year", new Date(2025, 1, 27, 12)),
    chatOf("tomorrow, by the server's clock", new Date(2026, 2, 31)),
  ];
  const groups = groupByDay(chats, now).map(({ name, chats: members }) => [name, members.length]);
  expect(groups).toEqual([
    ["pinned", 1],
    ["today", 2],
    ["yesterday", 1],
    ["previousWeek", 2],
    ["previousMonth", 1],
    ["2026-2", 1],
    ["2025-2", 1],
  ]);
});

test("times are seconds or ISO 8601", () => {
  expect(toDate(1.5).getTime()).toBe(1500);
  expect(toDate("1970-01-01T00:00:02Z").getTime()).toBe(2000);
});

test("a changed chat takes its place: pinned first, then the newest", () => {
  const list = new ChatList(new Api(() => null, () => undefined), new Notices());
  list.put(chatOf("old", new Date(1000)));
  list.put(chatOf("new", new Date(3000)));
  list.put(chatOf("pinned", new Date(2000), true));
  expect(list.chats.value.map(({ id }) => id)).toEqual(["pinned", "new", "old"]);
  list.put(chatOf("old", new Date(4000)));
  expect(list.chats.value.map(({ id }) => id)).toEqual(["pinned", "old", "new"]);
});

/** A list whose server keeps its answers back until they are let through. */
function slowList(server: FakeServer): { list: ChatList; letThrough: () => void } {
  const waiting: (() => void)[] = [];
  const api = new Api(
    () => null,
    () => undefined,
    async (path, init) => {
      const answer = await server.fetch(path, init);
      if (path.includes("?")) await new Promise<void>((resolve) => waiting.push(resolve));
      return answer;
    },
  );
  const letThrough = () => waiting.splice(0).forEach((resolve) => resolve());
  return { list: new ChatList(api, new Notices()), letThrough };
}

const titles = (list: ChatList) => list.chats.value.map(({ title }) => title);

test("a list that was asked for before a change does not undo it", async () => {
  const server = new FakeServer();
  const [kept, gone] = [server.newChat("old"), server.newChat("gone")];
  const { list, letThrough } = slowList(server);
  const loaded = list.load();
  await list.change(kept.id, { title: "new" });
  await list.delete(gone.id);
  await vi.waitFor(() => {
    letThrough();
    expect(list.isLoaded.value).toBe(true);
  });
  await loaded;
  expect(titles(list)).toEqual(["new"]);
});

test("in a search the server says whether a changed chat matches", async () => {
  const server = new FakeServer();
  server.newChat("apples");
  const { list, letThrough } = slowList(server);
  list.search("app");
  await vi.waitFor(() => {
    letThrough();
    expect(titles(list)).toEqual(["apples"]);
  });
  list.put(server.newChat("pears"));
  list.put(server.newChat("crab apples"));
  expect(titles(list)).toEqual(["apples"]);
  await vi.waitFor(() => {
    letThrough();
    expect(titles(list)).toEqual(["crab apples", "apples"]);
  });
});

test("the answer to an older search does not replace a newer one", async () => {
  const server = new FakeServer();
  server.newChat("apples");
  server.newChat("pears");
  const waiting: (() => void)[] = [];
  const api = new Api(
    () => null,
    () => undefined,
    async (path, init) => {
      if (path.includes("query=app")) await new Promise<void>((resolve) => waiting.push(resolve));
      return server.fetch(path, init);
    },
  );
  vi.useFakeTimers();
  const list = new ChatList(api, new Notices());
  list.search("app");
  await vi.advanceTimersByTimeAsync(300);
  list.search("pear");
  await vi.advanceTimersByTimeAsync(300);
  waiting.forEach((resolve) => resolve());
  await vi.advanceTimersByTimeAsync(300);
  vi.useRealTimers();
  expect(titles(list)).toEqual(["pears"]);
});
