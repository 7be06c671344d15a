/** The page's API in memory, as `fetch` sees it: what the tests of the state talk to. */
import type { Fetch } from "../src/api/client";
import type { Chat, Message, PageInfo, ReplyRequest } from "../src/api/types";

export function event(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** A stream of these texts; with a signal it stays open until the signal breaks it or `last` comes. */
export function streamOf(
  texts: readonly string[],
  open: AbortSignal | null = null,
  last?: Promise<string>,
): ReadableStream {
  return new ReadableStream({
    start(controller) {
      for (const text of texts) controller.enqueue(new TextEncoder().encode(text));
      if (!open) return controller.close();
      void last?.then((text) => controller.enqueue(new TextEncoder().encode(text)));
      open.addEventListener("abort", () => controller.error(new DOMException("", "AbortError")));
    },
  });
}

export function messageOf(id: string, parent_id: string | null, more: Partial<Message> = {}): Message {
  return {
    id,
    parent_id,
    role: "assistant",
    content: "",
    reasoning_content: "",
    thinking_seconds: null,
    files: [],
    search_query: null,
    sources: [],
    model: "tiny",
    status: "generating",
    error: null,
    finish_reason: null,
    usage: null,
    seconds: null,
    tokens_per_second: null,
    created_at: 0,
    ...more,
  };
}

export const PAGE: PageInfo = {
  models: [
    { id: "tiny", is_reasoning: true, max_model_len: 1024 },
    { id: "plain", is_reasoning: false, max_model_len: 512 },
  ],
  defaults: { temperature: 0.6, top_p: 0.95, max_tokens: 32768, thinking_budget: null },
  files: { max_bytes: 1000, max_files: 2, types: [".txt", ".pdf"] },
  search: { is_available: false, provider: null },
  version: "0",
  needs_key: false,
};

export class FakeServer {
  readonly chats = new Map<string, Chat>();
  readonly messages = new Map<string, Message & { chat_id: string }>();
  readonly requests: ReplyRequest[] = [];
  key: string | null = null;
  page = PAGE;
  /** Answers the next request instead of the server. */
  failure: Response | Error | null = null;
  private numIds = 0;
  private readonly ends = new Map<string, (text: string) => void>();

  fetch: Fetch = async (path, init = {}) => {
    const failure = this.failure;
    this.failure = null;
    if (failure instanceof Error) throw failure;
    if (failure) return failure;
    const authorization = new Headers(init.headers).get("Authorization");
    if (this.key && authorization !== `Bearer ${this.key}`) return refusal(401, "wrong key");
    return this.answer(`${init.method ?? "GET"} ${path}`, init);
  };

  private answer(call: string, init: RequestInit): Response {
    const body = init.body ? JSON.parse(init.body as string) : null;
    if (call === "GET /api/page") return Response.json(this.page);
    if (call.startsWith("GET /api/chats?")) return Response.json({ chats: this.listed(call) });
    if (call === "POST /api/chats") return Response.json(this.newChat());
    const [, method, kind, id = "", verb] =
      /^(\w+) \/api\/(chats|messages)\/(\w+)(?:\/(\w+))?$/.exec(call) ?? [];
    if (kind === "chats") return this.answerChat(`${method} ${verb ?? ""}`, id, body);
    const message = this.messages.get(id);
    if (!message) return refusal(404, "no such message");
    if (verb === "stop") return Response.json({ message: this.change(id, { status: "stopped" }) });
    const last = new Promise<string>((resolve) => this.ends.set(id, resolve));
    return new Response(streamOf(this.streamed(message), init.signal ?? null, last));
  }

  private answerChat(call: string, id: string, body: unknown): Response {
    const chat = this.chats.get(id);
    if (!chat) return refusal(404, "no such chat");
    const messages = [...this.messages.values()].filter((message) => message.chat_id === id);
    switch (call) {
      case "GET ":
        return Response.json({ chat, messages });
      case "PATCH ":
        this.chats.set(id, { ...chat, ...(body as Partial<Chat>) });
        return Response.json(this.chats.get(id));
      case "DELETE ":
        this.chats.delete(id);
        return new Response(null, { status: 204 });
      default:
        return Response.json(this.reply(chat, body as ReplyRequest));
    }
  }

  private listed(call: string): Chat[] {
    const query = new URLSearchParams(call.split("?")[1]).get("query") ?? "";
    return [...this.chats.values()].filter(({ title }) => title.includes(query)).reverse();
  }

  newChat(title = ""): Chat {
    const id = this.newId("c");
    const time = this.numIds;
    const chat = { id, title, is_pinned: false, created_at: time, updated_at: time, leaf_id: null };
    this.chats.set(id, chat);
    return chat;
  }

  private reply(chat: Chat, request: ReplyRequest) {
    this.requests.push(request);
    if (request.continue_id) {
      const assistant_message = this.change(request.continue_id, { status: "generating" });
      return { chat, user_message: null, assistant_message };
    }
    let parent_id = request.parent_id;
    let user_message: Message | null = null;
    if (request.content !== null) {
      const files = request.file_ids.map((id) => ({ id, name: id, num_bytes: 1 }));
      const question = { role: "user", status: "done", content: request.content, files } as const;
      user_message = this.add(chat, messageOf(this.newId("u"), parent_id, question));
      parent_id = user_message.id;
    }
    const reply = messageOf(this.newId("a"), parent_id, { model: request.model });
    const assistant_message = this.add(chat, reply);
    const title = chat.title || (request.content ?? "");
    const changed = { ...chat, title, leaf_id: assistant_message.id };
    this.chats.set(chat.id, changed);
    return { chat: changed, user_message, assistant_message };
  }

  add(chat: Chat, message: Message): Message {
    this.messages.set(message.id, { ...message, chat_id: chat.id });
    return message;
  }

  change(id: string, change: Partial<Message>): Message {
    const message = this.messages.get(id);
    if (!message) throw new Error(`no message ${id}`);
    this.messages.set(id, { ...message, ...change });
    return { ...message, ...change };
  }

  /** End a reply, and tell whoever follows it. */
  end(id: string, change: Partial<Message>): void {
    this.ends.get(id)?.(event("done", { message: this.change(id, change) }));
  }

  private newId(kind: string): string {
    this.numIds += 1;
    return `${kind}${this.numIds}`;
  }

  /** A generating reply's stream stays open after its snapshot; another's is done at once. */
  private streamed(message: Message): string[] {
    const snapshot = event("snapshot", { message });
    return message.status === "generating" ? [snapshot] : [snapshot, event("done", { message })];
  }
}

function refusal(status: number, message: string): Response {
  return Response.json({ error: { message, type: "error", param: null, code: null } }, { status });
}
