/** The page's state, put together, and what a person can do with it. */
import { computed, effect, signal, untracked } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { Api, type Fetch } from "../api/client";
import type { Chat, Message, ModelInfo, PageInfo, ReplyRequest } from "../api/types";
import { t } from "../i18n";
import { Announcer } from "../state/announcer";
import { Attachments } from "../state/attachments";
import { ChatList } from "../state/chat_list";
import { copyText } from "../state/clipboard";
import { Connection } from "../state/connection";
import { Conversation } from "../state/conversation";
import { Key } from "../state/key";
import { Notices } from "../state/notices";
import { Preferences } from "../state/preferences";
import { Route } from "../state/route";
import { stored } from "../state/stored";

export type Dialog =
  | { kind: "settings" }
  | { kind: "shortcuts" }
  | { kind: "key" }
  | { kind: "delete"; chat: Chat }
  | { kind: "rename"; chat: Chat };

/** Until the server has said what it takes, it is asked with whatever comes. */
const NO_LIMITS: PageInfo["files"] = { max_bytes: Infinity, max_files: Infinity, types: [] };

export class App {
  readonly preferences = new Preferences();
  readonly connection = new Connection();
  readonly notices = new Notices();
  readonly announcer = new Announcer();
  readonly key = new Key();
  readonly route = new Route();
  readonly page = signal<PageInfo | null>(null);
  readonly dialog = signal<Dialog | null>(null);
  readonly draft = stored("draft", "", (value): value is string => typeof value === "string");
  readonly isSending = signal(false);
  private readonly isNarrow = signal(false);
  private readonly isNarrowSidebarOpen = signal(false);
  /** Wide, the chats stand beside the page and the choice is kept; narrow, they lie over it. */
  readonly isSidebarShown = computed(() =>
    this.isNarrow.value ? this.isNarrowSidebarOpen.value : this.preferences.isSidebarOpen.value,
  );
  readonly isSidebarOverlay = computed(
    () => this.isNarrow.value && this.isNarrowSidebarOpen.value,
  );
  /** Raised to move the focus to the message box. */
  readonly focusRequests = signal(0);
  readonly api: Api;
  readonly chatList: ChatList;
  readonly conversation: Conversation;
  readonly attachments: Attachments;

  /** What was chosen in a chat and has not answered there yet. */
  private readonly chosenModels = signal<ReadonlyMap<string, string>>(new Map());
  /** Who answers in the open chat: the chosen one, or who did last; null in a new chat. */
  private readonly chatModel = computed(() => {
    const id = this.route.chatId.value;
    if (id === null) return null;
    return this.chosenModels.value.get(id) ?? this.conversation.leaf.value?.value.model ?? null;
  });
  readonly model = computed(
    () =>
      this.served(this.chatModel.value) ??
      this.served(this.preferences.model.value) ??
      this.page.value?.models[0] ??
      null,
  );
  /** The model of the open chat, when this server has it no more. */
  readonly lostModel = computed(() =>
    this.page.value && !this.served(this.chatModel.value) ? this.chatModel.value : null,
  );
  readonly isThinking = computed(
    () => (this.model.value?.is_reasoning ?? false) && this.preferences.isThinking.value,
  );
  readonly isSearching = computed(
    () => (this.page.value?.search.is_available ?? false) && this.preferences.isSearching.value,
  );
  /** The address names a chat whose messages are not here yet: what is written waits for them. */
  private readonly isOpening = computed(() => {
    const id = this.route.chatId.value;
    const { chat, loading } = this.conversation;
    return id !== null && chat.value?.id !== id && loading.value !== "missing";
  });
  readonly canSend = computed(
    () =>
      this.draft.value.trim() !== "" &&
      this.model.value !== null &&
      !this.isOpening.value &&
      !this.isSending.value &&
      !this.conversation.isGenerating.value &&
      !this.attachments.isUploading.value,
  );

  constructor(fetch?: Fetch) {
    this.api = new Api(() => this.key.value.peek(), this.onKeyRefused, fetch);
    this.chatList = new ChatList(this.api, this.notices);
    this.attachments = new Attachments(
      this.api,
      this.notices,
      () => this.page.peek()?.files ?? NO_LIMITS,
    );
    this.conversation = new Conversation({
      api: this.api,
      notices: this.notices,
      connection: this.connection,
      announcer: this.announcer,
      onChatChanged: (chat) => {
        this.chatList.put(chat);
        if (this.conversation.chat.peek()?.id === chat.id) this.route.go(chat.id);
      },
      onReplyEnded: () => void this.refreshChats(),
    });
  }

  /** Ask the server what it offers, again and again until it answers; then show the chat. */
  async start(): Promise<void> {
    this.preferences.applyTo(document.documentElement, navigator.languages);
    addEventListener("online", this.connection.retryNow);
    const narrow = matchMedia("(max-width: 760px)");
    this.isNarrow.value = narrow.matches;
    narrow.addEventListener("change", () => (this.isNarrow.value = narrow.matches));
    for (let failures = 0; !(await this.readPage()); failures += 1) {
      const milliseconds = Math.min(15_000, 1_000 * 2 ** failures);
      await this.connection.wait(milliseconds, new AbortController().signal);
    }
    this.connection.isFine();
    effect(() => {
      const title = this.conversation.chat.value?.title;
      document.title = title ? `${title} · R1` : "R1";
    });
    effect(() => {
      const chatId = this.route.chatId.value;
      untracked(() => void this.showChat(chatId));
    });
  }

  /** Whether the server answered; a refusal of the key asks for another and is an answer too. */
  private async readPage(): Promise<boolean> {
    try {
      this.page.value = await this.api.page();
    } catch (error) {
      if (this.dialog.peek()?.kind === "key") return true;
      console.warn("the server did not say what it offers", error);
      return false;
    }
    const { needs_key } = this.page.value;
    if (needs_key && this.key.value.peek() === null) this.dialog.value = { kind: "key" };
    else await this.chatList.load();
    return true;
  }

  private readonly onKeyRefused = (): void => {
    this.key.isRefused.value = this.key.value.peek() !== null;
    this.dialog.value = { kind: "key" };
  };

  /** Another key sees other chats. */
  async useKey(key: string, isRemembered: boolean): Promise<void> {
    this.key.set(key, isRemembered);
    this.dialog.value = null;
    this.conversation.close();
    await this.readPage();
    if (this.dialog.peek() === null) await this.showChat(this.route.chatId.peek());
  }

  private async showChat(chatId: string | null): Promise<void> {
    if (chatId === null) this.conversation.close();
    else await this.notices.guard(() => this.conversation.open(chatId));
  }

  private served(id: string | null): ModelInfo | null {
    return this.page.value?.models.find((model) => model.id === id) ?? null;
  }

  /** For the open chat, though its messages may not be here yet, and for those begun from now on. */
  chooseModel(id: string): void {
    this.preferences.model.value = id;
    const chatId = this.route.chatId.peek();
    if (chatId !== null) {
      this.chosenModels.value = new Map(this.chosenModels.peek()).set(chatId, id);
    }
  }

  setSidebarOpen(isOpen: boolean): void {
    if (this.isNarrow.peek()) this.isNarrowSidebarOpen.value = isOpen;
    else this.preferences.isSidebarOpen.value = isOpen;
  }

  closeNarrowSidebar(): void {
    this.isNarrowSidebarOpen.value = false;
  }

  searchChats(): void {
    const focus = () => document.getElementById("chat-search")?.focus();
    if (this.isSidebarShown.peek()) return focus();
    this.setSidebarOpen(true);
    // Once the sidebar is drawn.
    setTimeout(focus);
  }

  copyLastReply(): void {
    const reply = this.conversation.leaf.peek()?.peek();
    if (reply?.role === "assistant") void this.copy(reply.content);
  }

  newChat(): void {
    this.route.go(null);
    this.closeNarrowSidebar();
    this.focusMessage();
  }

  focusMessage(): void {
    this.focusRequests.value += 1;
  }

  /** Send what the message box holds; it comes back when the server refuses it. */
  async send(): Promise<void> {
    if (!this.canSend.peek()) return;
    const content = this.draft.peek();
    const files = this.attachments.items.peek();
    const parent_id = this.conversation.path.peek().at(-1) ?? null;
    const file_ids = this.attachments.fileIds();
    this.draft.value = "";
    this.attachments.clear();
    if (await this.ask({ parent_id, content, file_ids })) return;
    const since = this.draft.peek();
    this.draft.value = since ? `${content}\n\n${since}` : content;
    this.attachments.restore(files);
  }

  regenerate(reply: Message): Promise<boolean> {
    return this.ask({ parent_id: reply.parent_id });
  }

  continueReply(reply: Message): Promise<boolean> {
    const own = this.served(reply.model);
    const continued = { parent_id: reply.parent_id, continue_id: reply.id };
    return this.ask(own ? { ...continued, model: own.id } : continued);
  }

  edit(question: Message, content: string): Promise<boolean> {
    const file_ids = question.files.map(({ id }) => id);
    return this.ask({ parent_id: question.parent_id, content, file_ids });
  }

  async stop(): Promise<void> {
    if (!this.conversation.isGenerating.peek()) return;
    await this.notices.guard(() => this.conversation.stop());
    // The button that had the focus is gone.
    if (document.activeElement === document.body) this.focusMessage();
  }

  private async ask(
    request: Partial<ReplyRequest> & Pick<ReplyRequest, "parent_id">,
  ): Promise<boolean> {
    const model = this.model.peek();
    if (!model || this.isSending.peek()) return false;
    this.isSending.value = true;
    const whole: ReplyRequest = {
      content: null,
      file_ids: [],
      model: model.id,
      thinking: this.isThinking.peek(),
      search: this.isSearching.peek(),
      settings: this.preferences.sampling.peek(),
      continue_id: null,
      ...request,
    };
    const isSent = await this.notices.guard(() => this.conversation.send(whole));
    this.isSending.value = false;
    return isSent;
  }

  /** Titles and order as the server has them now. */
  private async refreshChats(): Promise<void> {
    await this.chatList.load();
    const open = this.conversation.chat.peek();
    const fresh = this.chatList.chats.peek().find(({ id }) => id === open?.id);
    if (fresh) this.conversation.chat.value = fresh;
  }

  async changeChat(chat: Chat, change: { title?: string; is_pinned?: boolean }): Promise<void> {
    await this.notices.guard(async () =>
      this.conversation.changed(await this.chatList.change(chat.id, change)),
    );
  }

  async deleteChat(chat: Chat): Promise<void> {
    const isGone = await this.notices.guard(() => this.chatList.delete(chat.id));
    if (!isGone) return;
    if (this.route.chatId.peek() === chat.id) this.newChat();
    this.notices.info(t.peek().deleted);
  }

  async exportChat(chat: Chat, format: "json" | "markdown"): Promise<void> {
    await this.notices.guard(async () => {
      const blob = await this.api.exportChat(chat.id, format);
      saveFile(blob, fileName(chat.title, format === "json" ? "json" : "md"));
    });
  }

  async importChat(file: File): Promise<void> {
    let exported: unknown;
    try {
      exported = JSON.parse(await file.text());
    } catch (error) {
      console.warn("the file to import is not JSON", error);
      return this.notices.error(t.peek().importFailed);
    }
    await this.notices.guard(async () => {
      const chat = await this.api.importChat(exported);
      this.chatList.put(chat);
      this.route.go(chat.id);
      this.notices.info(t.peek().imported);
    });
  }

  async copy(text: string): Promise<boolean> {
    const isCopied = await copyText(text);
    if (isCopied) this.announcer.say(t.peek().copied);
    else this.notices.error(t.peek().copyFailed);
    return isCopied;
  }
}

/** A title as a file's name on any system. */
export function fileName(title: string, ending: string): string {
  const name = title
    .replace(/[\\/:*?"<>|\p{Cc}\s]+/gu, " ")
    .trim()
    .slice(0, 80);
  return `${name || "chat"}.${ending}`;
}

function saveFile(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const AppContext = createContext<App | null>(null);

export function useApp(): App {
  const app = useContext(AppContext);
  if (!app) throw new Error("a component is outside of the page");
  return app;
}
