/** Signals that outlive a reload. A browser that forbids storage only forgets. */
import { effect, signal, type Signal } from "@preact/signals";

export function readStored(storage: Storage, name: string): unknown {
  try {
    const text = storage.getItem(`r1.${name}`);
    return text === null ? null : (JSON.parse(text) as unknown);
  } catch (error) {
    console.warn(`what was kept as ${name} cannot be read`, error);
    return null;
  }
}

export function writeStored(storage: Storage, name: string, value: unknown): void {
  try {
    if (value === null || value === "") storage.removeItem(`r1.${name}`);
    else storage.setItem(`r1.${name}`, JSON.stringify(value));
  } catch (error) {
    console.warn(`${name} cannot be kept`, error);
  }
}

/** `accepts` guards against what another version of the page, or a person, has written. */
export function stored<T>(name: string, start: T, accepts: (value: unknown) => value is T): Signal<T> {
  const kept = readStored(localStorage, name);
  const value = signal<T>(accepts(kept) ? kept : start);
  effect(() => writeStored(localStorage, name, value.value));
  return value;
}

export function isBoolean(value: unknown): value is boolean {
  return typeof value === "boolean";
}

export function isOneOf<T extends string>(...choices: T[]): (value: unknown) => value is T {
  return (value): value is T => choices.some((choice) => choice === value);
}
