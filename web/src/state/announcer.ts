/** The polite live region: sentences of a reply as they end, at a calm pace. */
import { signal } from "@preact/signals";
import { spoken, wholeSentences } from "./sentences";

const PACE_MILLISECONDS = 1_500;

export class Announcer {
  /** The latest announcement; `number` tells a repeated text from an old one. */
  readonly said = signal<{ number: number; text: string }>({ number: 0, text: "" });
  private numSpoken = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private readonly waiting: string[] = [];

  say(text: string): void {
    if (text) this.said.value = { number: this.said.peek().number + 1, text };
  }

  /** A reply begins, of which `numShown` characters were there before. */
  begin(numShown: number): void {
    this.numSpoken = numShown;
  }

  /** The reply so far; with `isDone` its last words are said even without a full stop. */
  follow(content: string, isDone: boolean): void {
    const fresh = content.slice(this.numSpoken);
    const end = isDone ? fresh.length : wholeSentences(fresh);
    if (end === 0) return;
    this.numSpoken += end;
    const text = spoken(fresh.slice(0, end));
    if (text) this.sayAtPace(text);
  }

  sayAtPace(text: string): void {
    this.waiting.push(text);
    this.timer ??= setTimeout(() => this.sayWaiting(), PACE_MILLISECONDS);
  }

  private sayWaiting(): void {
    this.timer = null;
    this.say(this.waiting.splice(0).join(" "));
  }
}
