/** The chat that is open: its tree of messages, the branch that is shown, and replies under way. */
import { batch, computed, signal, type Signal } from "@preact/signals";
import { ApiFailure, type Api } from "../api/client";
import { followReply } from "../api/stream";
import type { Chat, Message, ReplyRequest, ReplyStart } from "../api/types";
import { t } from "../i18n";
import type { Announcer } from "./announcer";
import type { Connection } from "./connection";
import { LiveReply } from "./live_reply";
import { plainWords, type Notices } from "./notices";
import { childrenOf, newestLeaf, pathTo, versionsOf, type Node } from "./tree";

export type Loading = "none" | "loading" | "loaded" | "missing";
type Messages = ReadonlyMap<string, Signal<Message>>;

export interface ConversationNeeds {
  api: Api;
  notices: Notices;
  connection: Connection;
  announcer: Announcer;
  /** A chat's title, time or branch changed. */
  onChatChanged: (chat: Chat) => void;
  /** A reply ended: the chat's time is another. */
  onReplyEnded: () => void;
}

export class Conversation {
  readonly chat = signal<Chat | null>(null);
  readonly loading = signal<Loading>("none");
  readonly isSaved = signal(true);
  /** Counts what was asked here: each time the view goes to the end. */
  readonly numAsked = signal(0);
  private readonly messages = signal<Messages>(new Map());
  private readonly leafId = signal<string | null>(null);
  /** Tells what was asked for one view from a later one. */
  private numViews = 0;
  /** Replies that were begun when their chat was not shown. */
  private numBegunUnseen = 0;
  private readonly replies = new Map<string, AbortController>();

  // A message's place never changes, so that reading it without following keeps the path still
  // while its text grows.
  private readonly nodes = computed(
    () => new Map<string, Node>([...this.messages.value].map(([id, m]) => [id, m.peek()])),
  );
  private readonly children = computed(() => childrenOf(this.nodes.value.values()));
  readonly path = computed(() => pathTo(this.nodes.value, this.leafId.value));
  readonly leaf = computed(() => this.message(this.path.value.at(-1) ?? ""));
  readonly isGenerating = computed(() => this.leaf.value?.value.status === "generating");

  constructor(private readonly needs: ConversationNeeds) {}

  message(id: string): Signal<Message> | undefined {
    return this.messages.value.get(id);
  }

  versions(message: Node): { ids: readonly string[]; index: number } {
    return versionsOf(this.children.value, message);
  }

  /** No chat: what is sent next begins one. */
  close(): void {
    if (this.loading.peek() !== "none") this.leave("none");
  }

  async open(chatId: string): Promise<void> {
    if (this.chat.peek()?.id === chatId) return;
    this.leave("loading");
    const [view, begun] = [this.numViews, this.numBegunUnseen];
    try {
      let found = await this.needs.api.chat(chatId);
      // One that began meanwhile may be missing in it.
      if (begun !== this.numBegunUnseen) found = await this.needs.api.chat(chatId);
      const { chat, messages } = found;
      if (view === this.numViews) this.fill(chat, messages, "loaded");
    } catch (error) {
      if (view !== this.numViews) return;
      if (!(error instanceof ApiFailure && error.status === 404)) {
        this.fill(null, [], "none");
        throw error;
      }
      this.fill(null, [], "missing");
    }
  }

  private leave(loading: Loading): void {
    this.numViews += 1;
    this.stopFollowing();
    this.fill(null, [], loading);
  }

  private fill(chat: Chat | null, messages: Message[], loading: Loading): void {
    batch(() => {
      this.chat.value = chat;
      this.loading.value = loading;
      this.isSaved.value = true;
      this.messages.value = new Map(messages.map((message) => [message.id, signal(message)]));
      const leaf = chat?.leaf_id ?? null;
      this.leafId.value = newestLeaf(this.children.value, leaf);
    });
    for (const message of messages) if (message.status === "generating") this.follow(message.id);
  }

  /** Ask for a reply; a first message makes the chat. Throws what the server refuses. */
  async send(request: ReplyRequest): Promise<void> {
    const known = this.chat.peek();
    const view = this.numViews;
    const asked = known ?? (await this.needs.api.newChat());
    const start = await this.ask(asked, request, known === null);
    const { chat, user_message: question, assistant_message: reply } = start;
    // Another chat was opened meanwhile; this one is listed.
    const isHere = known ? this.chat.peek()?.id === known.id : view === this.numViews;
    if (!isHere) {
      this.numBegunUnseen += 1;
      return this.needs.onChatChanged(chat);
    }
    batch(() => {
      if (known === null) this.fill(chat, [], "loaded");
      this.put(question ? [question, reply] : [reply], reply.id);
      this.changed(chat);
    });
    this.numAsked.value += 1;
    this.follow(reply.id);
  }

  /** A chat that is made for a message goes with it when the server refuses the message. */
  private async ask(chat: Chat, request: ReplyRequest, isNew: boolean): Promise<ReplyStart> {
    try {
      return await this.needs.api.reply(chat.id, request);
    } catch (error) {
      if (isNew) await this.needs.api.deleteChat(chat.id);
      throw error;
    }
  }

  async stop(): Promise<void> {
    const id = this.leaf.peek()?.peek().id;
    if (id === undefined) return;
    const [view, following] = [this.numViews, this.replies.get(id)];
    const { message } = await this.needs.api.stop(id);
    // Its stream may have told the end before, and the reply be continued by now.
    if (view !== this.numViews || following !== this.replies.get(id)) return;
    following?.abort();
    this.put([message], id);
    this.isSaved.value = true;
    this.needs.announcer.say(t.peek().replyStopped);
  }

  /** Show another version of a message, at the newest end of its branch. */
  async showVersion(id: string): Promise<void> {
    const chat = this.chat.peek();
    const leaf = newestLeaf(this.children.peek(), id);
    if (!chat || leaf === null) return;
    this.leafId.value = leaf;
    this.changed(await this.needs.api.changeChat(chat.id, { leaf_id: leaf }));
  }

  /** The chat as the server has it now. */
  changed(chat: Chat): void {
    if (this.chat.peek()?.id === chat.id) this.chat.value = chat;
    this.needs.onChatChanged(chat);
  }

  private put(changed: readonly Message[], leafId: string): void {
    batch(() => {
      const messages = new Map(this.messages.peek());
      for (const message of changed) {
        const known = messages.get(message.id);
        if (known) known.value = message;
        else messages.set(message.id, signal(message));
      }
      if (messages.size !== this.messages.peek().size) this.messages.value = messages;
      this.leafId.value = leafId;
    });
  }

  private follow(id: string): void {
    const message = this.messages.peek().get(id);
    if (!message) return;
    this.replies.get(id)?.abort();
    const stopped = new AbortController();
    this.replies.set(id, stopped);
    const { api, connection, notices } = this.needs;
    const live = new LiveReply(message, (shown, isSaved) => {
      if (!stopped.signal.aborted) this.onShown(shown, isSaved);
    });
    this.isSaved.value = false;
    this.needs.announcer.begin(message.peek().content.length);
    followReply({
      open: (signal) => api.stream(id, signal),
      onEvent: (event) => {
        if (!stopped.signal.aborted) live.take(event);
      },
      waitBeforeRetry: connection.wait,
      onConnected: connection.isFine,
      signal: stopped.signal,
    })
      .catch((error: unknown) => notices.error(plainWords(error)))
      .finally(() => {
        if (this.replies.get(id) === stopped) this.replies.delete(id);
      });
  }

  private onShown(message: Message, isSaved: boolean): void {
    const { id, status, content } = message;
    this.isSaved.value = isSaved;
    if (id !== this.leafId.peek()) return;
    const { announcer } = this.needs;
    announcer.follow(content, status !== "generating");
    if (status === "generating") return;
    const words = t.peek();
    const ends = { done: words.replyEnded, stopped: words.replyStopped, failed: words.failed };
    announcer.sayAtPace(ends[status]);
    this.needs.onReplyEnded();
  }

  private stopFollowing(): void {
    for (const reply of this.replies.values()) reply.abort();
    this.replies.clear();
  }
}
