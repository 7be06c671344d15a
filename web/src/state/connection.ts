/** Whether replies still arrive, and when the next try is. */
import { signal } from "@preact/signals";

export type ConnectionState =
  | { kind: "fine" }
  | { kind: "waiting"; retryAt: number }
  | { kind: "connecting" };

export class Connection {
  readonly state = signal<ConnectionState>({ kind: "fine" });
  private readonly waiting = new Set<() => void>();

  isFine = (): void => {
    this.state.value = { kind: "fine" };
  };

  /** Wait, or until `retryNow`, or until `signal` ends it all. */
  wait = (milliseconds: number, signal: AbortSignal): Promise<void> => {
    this.state.value = { kind: "waiting", retryAt: Date.now() + milliseconds };
    return new Promise((resolve) => {
      const goOn = () => {
        clearTimeout(timer);
        this.waiting.delete(goOn);
        signal.removeEventListener("abort", goOn);
        this.state.value = signal.aborted ? { kind: "fine" } : { kind: "connecting" };
        resolve();
      };
      const timer = setTimeout(goOn, milliseconds);
      this.waiting.add(goOn);
      signal.addEventListener("abort", goOn);
    });
  };

  retryNow = (): void => {
    for (const goOn of [...this.waiting]) goOn();
  };
}
