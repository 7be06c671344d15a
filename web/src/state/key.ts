/** The API key: for this tab, or on this device when the person says so. */
import { signal } from "@preact/signals";
import { readStored, writeStored } from "./stored";

export class Key {
  readonly value = signal<string | null>(null);
  readonly isRemembered = signal(false);
  /** The server refused what it was sent. */
  readonly isRefused = signal(false);

  constructor() {
    const remembered = readStored(localStorage, "key");
    const ofTab = readStored(sessionStorage, "key");
    const key = remembered ?? ofTab;
    this.value.value = typeof key === "string" ? key : null;
    this.isRemembered.value = typeof remembered === "string";
  }

  set(key: string, isRemembered: boolean): void {
    this.value.value = key || null;
    this.isRemembered.value = isRemembered;
    this.isRefused.value = false;
    writeStored(localStorage, "key", isRemembered ? key : null);
    writeStored(sessionStorage, "key", isRemembered ? null : key);
  }
}
