/** A reply while it grows: its events, put into the message once a frame and not once a token. */
import type { Signal } from "@preact/signals";
import type { ReplyEvent } from "../api/stream";
import type { Message } from "../api/types";

/** Run soon, once: at the next frame, or by a timer where a hidden page draws no frames. */
export type Schedule = (run: () => unknown) => void;

export const atNextFrame: Schedule = (run) => {
  if (document.hidden) setTimeout(run, 250);
  else requestAnimationFrame(run);
};

export class LiveReply {
  private reasoning = "";
  private content = "";
  private isScheduled = false;
  /** Characters as the server counts them: code points. */
  private numReceived = 0;
  private numSaved = 0;
  private thoughtSince: number | null = null;

  constructor(
    readonly message: Signal<Message>,
    private readonly onShown: (message: Message, isSaved: boolean) => void,
    private readonly schedule: Schedule = atNextFrame,
    private readonly now: () => number = Date.now,
  ) {}

  take(event: ReplyEvent): void {
    switch (event.name) {
      case "snapshot":
        return this.restart(event.message);
      case "sources":
        return this.change({ search_query: event.search_query, sources: event.sources });
      case "reasoning":
        this.thoughtSince ??= this.now();
        this.reasoning += event.text;
        return this.grow(event.text);
      case "content":
        this.content += event.text;
        return this.grow(event.text);
      case "saved":
        this.numSaved = event.num_reasoning_characters + event.num_content_characters;
        return this.showSoon();
      case "done":
        this.restart(event.message);
        return this.flush();
    }
  }

  private restart(message: Message): void {
    this.reasoning = "";
    this.content = "";
    this.numReceived = numCharacters(message.reasoning_content) + numCharacters(message.content);
    this.numSaved = message.status === "generating" ? this.numSaved : this.numReceived;
    this.change(message);
  }

  private grow(text: string): void {
    this.numReceived += numCharacters(text);
    this.showSoon();
  }

  private showSoon(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    // The end may have been shown in between: it is shown once.
    this.schedule(() => this.isScheduled && this.flush());
  }

  private flush(): void {
    this.isScheduled = false;
    if (this.reasoning || this.content) {
      const shown = this.message.peek();
      const reasoning_content = shown.reasoning_content + this.reasoning;
      const content = shown.content + this.content;
      this.reasoning = "";
      this.content = "";
      this.change({ reasoning_content, content, ...this.thoughtTime(content) });
    }
    this.onShown(this.message.peek(), this.numSaved >= this.numReceived);
  }

  /** The server tells the time of a thought at the end; until then it is what we saw ourselves. */
  private thoughtTime(content: string): Partial<Message> {
    if (this.thoughtSince === null || !content) return {};
    if (this.message.peek().thinking_seconds !== null) return {};
    return { thinking_seconds: (this.now() - this.thoughtSince) / 1000 };
  }

  private change(change: Partial<Message>): void {
    this.message.value = { ...this.message.peek(), ...change };
  }
}

/** Code points, as Python counts them. */
export function numCharacters(text: string): number {
  let num = 0;
  for (let i = 0; i < text.length; i += 1) {
    // The second half of a surrogate pair belongs to the character before it.
    if ((text.charCodeAt(i) & 0xfc00) !== 0xdc00) num += 1;
  }
  return num;
}
