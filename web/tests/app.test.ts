import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { App, fileName } from "../src/app/app";
import { ApiFailure } from "../src/api/client";
import { FakeServer, messageOf, PAGE } from "./fake_server";

let server: FakeServer;

beforeEach(() => {
  server = new FakeServer();
  localStorage.clear();
  sessionStorage.clear();
  location.hash = "";
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined }));
});

afterEach(() => {
  vi.unstubAllGlobals();
});

async function startedApp(): Promise<App> {
  const app = new App(server.fetch);
  await app.start();
  return app;
}

async function sentApp(text = "Why?"): Promise<App> {
  const app = await startedApp();
  app.draft.value = text;
  await app.send();
  return app;
}

/** Until the stream of the last reply has brought its snapshot and, where it is over, its end. */
async function settled(app: App): Promise<void> {
  await vi.waitFor(() => expect(app.conversation.isGenerating.value).toBe(false));
}

async function ended(app: App): Promise<void> {
  await app.stop();
  await settled(app);
}

/** Keeps the next request of a kind, or its answer, back until it is let through. */
function hold(
  app: App,
  kind: "page" | "chat" | "stop" | "reply" | "deleteChat",
  held: "request" | "answer" = "request",
): () => void {
  let letThrough = (): void => undefined;
  const call = app.api[kind].bind(app.api) as (...given: unknown[]) => Promise<never>;
  vi.spyOn(app.api, kind).mockImplementationOnce(async (...given: unknown[]) => {
    const answer = held === "answer" ? await call(...given) : undefined;
    await new Promise<void>((resolve) => (letThrough = resolve));
    return answer ?? call(...given);
  });
  return () => letThrough();
}

test("the first message makes a chat, and the address names it", async () => {
  const app = await sentApp();
  const [chat] = server.chats.values();
  expect(app.conversation.path.value).toEqual(["u2", "a3"]);
  expect(location.hash).toBe(`#/chat/${chat?.id}`);
  // It is named at once, not when the list has been asked for again.
  expect(app.conversation.chat.value?.title).toBe("Why?");
  expect(app.chatList.chats.value.map(({ title }) => title)).toEqual(["Why?"]);
  expect(server.requests).toEqual([
    {
      parent_id: null,
      content: "Why?",
      file_ids: [],
      model: "tiny",
      thinking: true,
      search: false,
      settings: {},
      continue_id: null,
    },
  ]);
  expect([app.draft.value, app.conversation.isGenerating.value]).toEqual(["", true]);
});

test("while a reply grows nothing else is sent; after a stop it is", async () => {
  const app = await sentApp();
  app.draft.value = "More";
  await app.send();
  expect(server.requests.length).toBe(1);
  await ended(app);
  await app.send();
  expect(server.requests[1]).toMatchObject({ parent_id: "a3", content: "More" });
});

test("edit, regenerate and continue ask for what the API calls so", async () => {
  const app = await sentApp();
  await ended(app);
  const { conversation } = app;
  await app.edit(conversation.message("u2")!.value, "Why not?");
  await ended(app);
  expect(server.requests[1]).toMatchObject({ parent_id: null, content: "Why not?" });
  expect(conversation.path.value).toEqual(["u4", "a5"]);
  await app.regenerate(conversation.message("a5")!.value);
  await ended(app);
  expect(server.requests[2]).toMatchObject({ parent_id: "u4", content: null });
  expect(conversation.path.value).toEqual(["u4", "a6"]);
  await app.continueReply(conversation.message("a6")!.value);
  expect(server.requests[3]).toMatchObject({ continue_id: "a6", content: null });
  expect(conversation.isGenerating.value).toBe(true);
  await ended(app);
  await conversation.showVersion("u2");
  expect(conversation.path.value).toEqual(["u2", "a3"]);
  expect([...server.chats.values()][0]?.leaf_id).toBe("a3");
});

test("what is written before the chat is here waits for it", async () => {
  const chat = server.newChat("chat");
  server.add(chat, messageOf("u", null, { role: "user", status: "done", content: "Why?" }));
  server.add(chat, messageOf("a", "u", { status: "done" }));
  server.chats.set(chat.id, { ...chat, leaf_id: "a" });
  location.hash = `#/chat/${chat.id}`;
  const app = new App(server.fetch);
  const arrive = hold(app, "chat");
  app.draft.value = "More";
  await app.start();
  expect([app.model.value?.id, app.canSend.value]).toEqual(["tiny", false]);
  await app.send();
  expect([server.requests.length, server.chats.size, app.draft.value]).toEqual([0, 1, "More"]);
  arrive();
  await vi.waitFor(() => expect(app.canSend.value).toBe(true));
  await app.send();
  expect(server.requests[0]).toMatchObject({ parent_id: "a", content: "More" });
});

const shownId = (app: App) => app.conversation.chat.value?.id;

test("a chat that is left before its reply has begun is in the list", async () => {
  const app = await startedApp();
  const other = server.newChat("Other");
  app.draft.value = "Why?";
  const sent = app.send();
  const arrive = hold(app, "chat");
  app.route.go(other.id);
  await sent;
  // Neither on its way nor here is the other chat replaced.
  expect([shownId(app), location.hash]).toEqual([undefined, `#/chat/${other.id}`]);
  expect(app.chatList.chats.value.map(({ title }) => title)).toContain("Why?");
  arrive();
  await vi.waitFor(() => expect(shownId(app)).toBe(other.id));
});

test("a chat that is left and opened again while its reply begins shows the reply", async () => {
  const app = await sentApp();
  await ended(app);
  const chat = shownId(app) ?? null;
  app.draft.value = "More";
  const begin = hold(app, "reply");
  const sent = app.send();
  app.route.go(null);
  const arrive = hold(app, "chat", "answer");
  app.route.go(chat);
  // The server told the chat before it took the message, and the page hears of it after.
  await vi.waitFor(() => expect(app.conversation.loading.value).toBe("loading"));
  await new Promise((resolve) => setTimeout(resolve, 20));
  begin();
  await sent;
  arrive();
  await vi.waitFor(() => expect(shownId(app)).toBe(chat));
  expect(app.conversation.path.value.length).toBe(4);
});

test("a message that is sent while the key is still looked at opens its chat", async () => {
  const app = await startedApp();
  const letKeyThrough = hold(app, "page");
  const keyed = app.useKey("key", false);
  app.draft.value = "Why?";
  const answer = hold(app, "reply");
  const sent = app.send();
  letKeyThrough();
  await keyed;
  answer();
  await sent;
  expect(app.conversation.path.value.length).toBe(2);
});

test("a slow chat does not come up under a later one's address", async () => {
  const app = await startedApp();
  const [slow, fast, gone] = [server.newChat("Slow"), server.newChat("Fast"), "gone"];
  const arrive = hold(app, "chat");
  app.route.go(slow.id);
  app.route.go(fast.id);
  await vi.waitFor(() => expect(shownId(app)).toBe(fast.id));
  arrive();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(shownId(app)).toBe(fast.id);
  // Nor does its failure.
  const fail = hold(app, "chat");
  app.route.go(gone);
  app.route.go(slow.id);
  await vi.waitFor(() => expect(shownId(app)).toBe(slow.id));
  fail();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect([shownId(app), app.conversation.loading.value]).toEqual([slow.id, "loaded"]);
});

test("a refused message comes back into the box, and the notice says why", async () => {
  const app = await startedApp();
  app.draft.value = "Why?";
  server.failure = Response.json({ error: { message: "full" } }, { status: 503 });
  await app.send();
  expect(app.draft.value).toBe("Why?");
  expect(app.notices.shown.value.map(({ text }) => text)).toEqual([
    "The server is busy. Try again in a moment.",
  ]);
});

test("what is written while a message is refused stays too", async () => {
  const app = await startedApp();
  app.draft.value = "Why?";
  app.attachments.add([new File([""], "empty.txt")]);
  const refuse = hold(app, "reply");
  const sent = app.send();
  await vi.waitFor(() => expect(app.api.reply).toHaveBeenCalled());
  app.draft.value = "And how?";
  app.attachments.add([new File(["x".repeat(2000)], "big.txt")]);
  server.failure = Response.json({ error: { message: "full" } }, { status: 503 });
  refuse();
  await sent;
  expect(app.draft.value).toBe("Why?\n\nAnd how?");
  const names = app.attachments.items.value.map(({ name }) => name);
  expect(names).toEqual(["empty.txt", "big.txt"]);
});

test("a stop that is answered late does not touch the chat that is open by then", async () => {
  const app = await sentApp();
  const other = server.newChat("Other");
  const answer = hold(app, "stop");
  const stopped = app.stop();
  app.route.go(other.id);
  await vi.waitFor(() => expect(shownId(app)).toBe(other.id));
  answer();
  await stopped;
  expect(app.conversation.path.value).toEqual([]);
});

test("a stop that is answered late does not end what continues the reply", async () => {
  const app = await sentApp();
  const reply = app.conversation.leaf.value!.value;
  const answer = hold(app, "stop");
  const stopped = app.stop();
  // The stream tells the end before the stop is answered.
  server.end(reply.id, { status: "stopped" });
  await settled(app);
  await vi.waitFor(() => expect(app.announcer.said.value.text).toBe("The reply was stopped."), 3000);
  await app.continueReply(reply);
  answer();
  await stopped;
  expect(app.conversation.isGenerating.value).toBe(true);
});

test("a chat whose first message is refused does not stay", async () => {
  const app = await startedApp();
  app.draft.value = "Why?";
  vi.spyOn(app.api, "reply").mockRejectedValueOnce(new ApiFailure(429, "busy"));
  await app.send();
  expect([server.chats.size, app.conversation.chat.value]).toEqual([0, null]);
  expect(app.chatList.chats.value).toEqual([]);
  await app.send();
  expect(server.chats.size).toBe(1);
});

test("a reload in mid-stream goes on from the server's snapshot", async () => {
  const chat = server.newChat("chat");
  server.add(chat, messageOf("u", null, { role: "user", status: "done", content: "Why?" }));
  server.add(chat, messageOf("a", "u", { content: "Because" }));
  location.hash = `#/chat/${chat.id}`;
  const app = await startedApp();
  await vi.waitFor(() => expect(app.conversation.isGenerating.value).toBe(true));
  expect(app.conversation.leaf.value?.value.content).toBe("Because");
});

test("an unknown chat is said to be missing", async () => {
  location.hash = "#/chat/gone";
  const app = await startedApp();
  await vi.waitFor(() => expect(app.conversation.loading.value).toBe("missing"));
  app.newChat();
  expect(app.conversation.loading.value).toBe("none");
});

test("a key is asked for, refused, and taken for this tab alone", async () => {
  server.key = "right";
  const app = await startedApp();
  expect([app.dialog.value?.kind, app.key.isRefused.value]).toEqual(["key", false]);
  await app.useKey("wrong", false);
  expect([app.dialog.value?.kind, app.key.isRefused.value]).toEqual(["key", true]);
  await app.useKey("right", false);
  expect([app.dialog.value, app.page.value?.version]).toEqual([null, "0"]);
  expect(localStorage.getItem("r1.key")).toBe(null);
  expect(sessionStorage.getItem("r1.key")).toBe('"right"');
});

test("a model that does not reason is not asked to think", async () => {
  const app = await startedApp();
  app.preferences.model.value = "plain";
  app.preferences.isSearching.value = true;
  app.draft.value = "Hi";
  await app.send();
  expect(server.requests[0]).toMatchObject({ model: "plain", thinking: false, search: false });
});

test("deleting the open chat leads to a new one", async () => {
  const app = await sentApp();
  await ended(app);
  await app.deleteChat(app.conversation.chat.value!);
  expect([server.chats.size, app.conversation.chat.value, location.hash]).toEqual([0, null, "#/"]);
});

test("a chat that is opened while another is deleted stays open", async () => {
  const app = await sentApp();
  await ended(app);
  const other = server.newChat("Other");
  const remove = hold(app, "deleteChat");
  const deleted = app.deleteChat(app.conversation.chat.value!);
  app.route.go(other.id);
  remove();
  await deleted;
  await vi.waitFor(() => expect(shownId(app)).toBe(other.id));
  expect(location.hash).toBe(`#/chat/${other.id}`);
});

test("what another version left in the browser is not trusted", async () => {
  localStorage.setItem("r1.sampling", '{"temperature":"hot"}');
  localStorage.setItem("r1.theme", '"pink"');
  localStorage.setItem("r1.draft", "{broken");
  const app = await startedApp();
  expect(app.preferences.sampling.value).toEqual({});
  expect(app.preferences.theme.value).toBe("system");
  expect(app.draft.value).toBe("");
  expect(app.page.value).toEqual(PAGE);
});

test.each([
  ["a/b\\c: d?", "a b c d.md"],
  ["..\n", "...md"],
  ["", "chat.md"],
  ["二次方程式", "二次方程式.md"],
])("%j is kept as %j", (title, name) => {
  expect(fileName(title, "md")).toBe(name);
});

test("a chat goes on with the model that answered in it, or was chosen for it", async () => {
  const app = await sentApp("One");
  await ended(app);
  app.newChat();
  await vi.waitFor(() => expect(app.conversation.chat.value).toBeNull());
  app.chooseModel("plain");
  app.draft.value = "Two";
  await app.send();
  await ended(app);
  expect(server.requests.map(({ model }) => model)).toEqual(["tiny", "plain"]);
  const [one, two] = [...server.chats.keys()];
  const open = async (id = "") => {
    app.route.go(id);
    await vi.waitFor(() => expect(shownId(app)).toBe(id));
  };
  await open(one);
  expect(app.model.value?.id).toBe("tiny");
  app.chooseModel("plain");
  expect(app.model.value?.id).toBe("plain");
  app.chooseModel("tiny");
  await open(two);
  expect(app.model.value?.id).toBe("plain");
  await open(one);
  expect(app.model.value?.id).toBe("tiny");
  expect(app.lostModel.value).toBeNull();
  // Chosen before the chat's messages are here.
  app.route.go(two ?? "");
  expect(app.conversation.loading.value).toBe("loading");
  app.chooseModel("tiny");
  await open(two);
  expect(app.model.value?.id).toBe("tiny");
});

test("a model that is served no longer is told, and another one answers", async () => {
  const app = await sentApp("One");
  await ended(app);
  app.page.value = { ...PAGE, models: PAGE.models.slice(1) };
  expect(app.lostModel.value).toBe("tiny");
  expect(app.model.value?.id).toBe("plain");
  app.chooseModel("plain");
  expect(app.lostModel.value).toBeNull();
});
