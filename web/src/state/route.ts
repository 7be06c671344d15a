/** Which chat the address names: `#/chat/ID`, so that any static server can hand out the page. */
import { signal } from "@preact/signals";

export class Route {
  readonly chatId = signal<string | null>(null);

  constructor() {
    this.read();
    addEventListener("hashchange", this.read);
  }

  go(chatId: string | null): void {
    const hash = chatId === null ? "#/" : `#/chat/${encodeURIComponent(chatId)}`;
    if (location.hash !== hash) location.hash = hash;
    this.chatId.value = chatId;
  }

  private readonly read = (): void => {
    this.chatId.value = chatOf(location.hash);
  };
}

export function chatOf(hash: string): string | null {
  const match = /^#\/chat\/([^/]+)$/.exec(hash);
  try {
    return match?.[1] ? decodeURIComponent(match[1]) : null;
  } catch (error) {
    // A hand-written address with a stray percent sign names no chat.
    if (error instanceof URIError) return null;
    throw error;
  }
}
