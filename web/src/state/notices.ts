/** Short lines at the edge of the page. */
import { signal } from "@preact/signals";
import { ApiFailure, ConnectionLost } from "../api/client";
import { t } from "../i18n";

export interface Notice {
  number: number;
  kind: "info" | "error";
  text: string;
}

const INFO_MILLISECONDS = 4_000;
const MOST_SHOWN = 3;

export class Notices {
  readonly shown = signal<readonly Notice[]>([]);
  private number = 0;

  info(text: string): void {
    const { number } = this.add("info", text);
    setTimeout(() => this.dismiss(number), INFO_MILLISECONDS);
  }

  /** Stays until it is dismissed. */
  error(text: string): void {
    if (this.shown.peek().some((notice) => notice.text === text)) return;
    this.add("error", text);
  }

  dismiss(number: number): void {
    this.shown.value = this.shown.peek().filter((notice) => notice.number !== number);
  }

  /** Run what may fail, and show in plain words how it did. Whether it went well. */
  async guard(action: () => Promise<void>): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (error) {
      const text = plainWords(error);
      if (text) this.error(text);
      return false;
    }
  }

  private add(kind: Notice["kind"], text: string): Notice {
    this.number += 1;
    const notice = { number: this.number, kind, text };
    this.shown.value = [...this.shown.peek(), notice].slice(-MOST_SHOWN);
    return notice;
  }
}

/** A failure in one line for the reader; empty when it is told elsewhere (the dialog for a key). */
export function plainWords(error: unknown): string {
  const words = t.peek();
  if (error instanceof ConnectionLost) return words.serverAway;
  if (!(error instanceof ApiFailure)) throw error;
  if (error.status === 401) return "";
  if (error.status === 429 || error.status === 503) return words.serverBusy;
  if (error.status >= 500 || !error.message) return words.serverFailed;
  return error.message;
}
