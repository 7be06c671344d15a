/** What the person chose, kept in this browser. */
import { effect, type Signal } from "@preact/signals";
import type { SamplingSettings } from "../api/types";
import { language, preferredLanguage, type Language } from "../i18n";
import { isBoolean, isOneOf, stored } from "./stored";

export type Theme = "system" | "light" | "dark";

export class Preferences {
  readonly theme: Signal<Theme> = stored("theme", "system", isOneOf("system", "light", "dark"));
  readonly language: Signal<Language | "automatic"> = stored(
    "language",
    "automatic",
    isOneOf("automatic", "en", "zh", "ja", "ko"),
  );
  readonly model: Signal<string | null> = stored("model", null, isTextOrNull);
  readonly isThinking: Signal<boolean> = stored("thinking", true, isBoolean);
  readonly isSearching: Signal<boolean> = stored("searching", false, isBoolean);
  readonly isSidebarOpen: Signal<boolean> = stored("sidebar", true, isBoolean);
  readonly sampling: Signal<SamplingSettings> = stored("sampling", {}, isSampling);

  /** Put theme and language on the document, now and at each change. */
  applyTo(root: HTMLElement, browserLanguages: readonly string[]): void {
    effect(() => {
      root.dataset["theme"] = this.theme.value;
    });
    effect(() => {
      const chosen = this.language.value;
      language.value = chosen === "automatic" ? preferredLanguage(browserLanguages) : chosen;
      root.lang = language.value === "zh" ? "zh-CN" : language.value;
    });
  }
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || typeof value === "string";
}

const SAMPLING_NAMES = ["temperature", "top_p", "max_tokens", "thinking_budget"];

function isSampling(value: unknown): value is SamplingSettings {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.entries(value).every(
    ([name, number]) => SAMPLING_NAMES.includes(name) && Number.isFinite(number),
  );
}
