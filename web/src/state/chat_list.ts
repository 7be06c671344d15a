/** The chats at the side: newest first, pinned before the others, searched by the server. */
import { computed, signal } from "@preact/signals";
import type { Api, ChatChange } from "../api/client";
import type { Chat } from "../api/types";
import type { Notices } from "./notices";

const NUM_CHATS_A_PAGE = 50;
/** The server's own limit. */
const MOST_CHATS = 500;
const TYPING_PAUSE_MILLISECONDS = 200;

export class ChatList {
  readonly chats = signal<readonly Chat[]>([]);
  readonly query = signal("");
  readonly hasMore = signal(false);
  readonly isLoaded = signal(false);
  readonly isEmpty = computed(() => this.isLoaded.value && this.chats.value.length === 0);
  private numLoads = 0;
  private isLoading = false;
  private typing: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly api: Api,
    private readonly notices: Notices,
  ) {}

  search(query: string): void {
    this.query.value = query;
    if (this.typing !== null) clearTimeout(this.typing);
    this.typing = setTimeout(() => void this.load(), TYPING_PAUSE_MILLISECONDS);
  }

  /** The newest chats, as many as are shown; with `isMore` those after the last of them. */
  load = async (isMore = false): Promise<void> => {
    const limit = isMore ? NUM_CHATS_A_PAGE : this.numShown();
    this.numLoads += 1;
    const load = this.numLoads;
    this.isLoading = true;
    await this.notices.guard(async () => {
      const shown = isMore ? this.chats.peek() : [];
      const before = shown.at(-1)?.id ?? null;
      const { chats } = await this.api.chats(this.query.peek(), limit, before);
      // A slow answer to an older question must not replace a newer one.
      if (load !== this.numLoads) return;
      const known = new Set(shown.map(({ id }) => id));
      const fresh = chats.filter(({ id }) => !known.has(id));
      this.chats.value = [...shown, ...fresh];
      this.hasMore.value = chats.length === limit && fresh.length > 0;
      this.isLoaded.value = true;
    });
    if (load === this.numLoads) this.isLoading = false;
  };

  /** What is under way may be from before a change that is known here. */
  private loadAgain(): void {
    if (this.isLoading) void this.load();
  }

  private numShown(): number {
    return Math.min(MOST_CHATS, Math.max(NUM_CHATS_A_PAGE, this.chats.peek().length));
  }

  /** A chat that is new or has changed. Only the server knows whether one matches a search. */
  put(chat: Chat): void {
    const chats = this.chats.peek();
    const others = chats.filter(({ id }) => id !== chat.id);
    if (this.query.peek() && others.length === chats.length) void this.load();
    else {
      this.chats.value = [...others, chat].sort(newestFirst);
      this.loadAgain();
    }
  }

  async change(id: string, change: ChatChange): Promise<Chat> {
    const chat = await this.api.changeChat(id, change);
    this.put(chat);
    return chat;
  }

  async delete(id: string): Promise<void> {
    await this.api.deleteChat(id);
    this.chats.value = this.chats.peek().filter((chat) => chat.id !== id);
    this.loadAgain();
  }
}

function newestFirst(a: Chat, b: Chat): number {
  if (a.is_pinned !== b.is_pinned) return a.is_pinned ? -1 : 1;
  return toDate(b.updated_at).getTime() - toDate(a.updated_at).getTime();
}

/** A time from the server: seconds since 1970, or ISO 8601. */
export function toDate(time: number | string): Date {
  return new Date(typeof time === "number" ? time * 1000 : time);
}

export type Day = "pinned" | "today" | "yesterday" | "previousWeek" | "previousMonth";

export interface Group {
  /** One of the named days, or a month as `2026-03`. */
  name: Day | `${number}-${number}`;
  chats: readonly Chat[];
}

/** Chats in the order given, under the day on which they last changed. */
export function groupByDay(chats: readonly Chat[], now: Date): Group[] {
  const groups = new Map<Group["name"], Chat[]>();
  for (const chat of chats) {
    const name = chat.is_pinned ? "pinned" : dayOf(toDate(chat.updated_at), now);
    const group = groups.get(name);
    if (group) group.push(chat);
    else groups.set(name, [chat]);
  }
  return [...groups].map(([name, members]) => ({ name, chats: members }));
}

function dayOf(time: Date, now: Date): Group["name"] {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  // By calendar days, not by 24 hours: the clock may change in between.
  const day = new Date(time.getFullYear(), time.getMonth(), time.getDate());
  const numDays = Math.round((midnight.getTime() - day.getTime()) / 86_400_000);
  if (numDays <= 0) return "today";
  if (numDays === 1) return "yesterday";
  if (numDays <= 7) return "previousWeek";
  if (numDays <= 30) return "previousMonth";
  return `${time.getFullYear()}-${time.getMonth() + 1}`;
}
