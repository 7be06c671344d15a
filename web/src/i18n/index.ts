/** The words of the page in the chosen language: `t.value.send` in a component follows a change. */
import { computed, signal } from "@preact/signals";
import { en, type Dictionary } from "./en";
import { ja } from "./ja";
import { ko } from "./ko";
import { zh } from "./zh";

export type { Dictionary };
export type Language = "en" | "zh" | "ja" | "ko";

export const DICTIONARIES: Readonly<Record<Language, Dictionary>> = { en, zh, ja, ko };

/** Each language in its own words, as a speaker looks for it. */
export const LANGUAGE_NAMES: Readonly<Record<Language, string>> = {
  en: "English",
  zh: "中文",
  ja: "日本語",
  ko: "한국어",
};

export const language = signal<Language>("en");

export const t = computed(() => DICTIONARIES[language.value]);

/** The first of the browser's languages that the page speaks. */
export function preferredLanguage(tags: readonly string[]): Language {
  for (const tag of tags) {
    const code = tag.toLowerCase().split("-")[0];
    if (code !== undefined && code in DICTIONARIES) return code as Language;
  }
  return "en";
}

export function formatNumber(value: number, digits = 0): string {
  return new Intl.NumberFormat(language.value, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

/** A size as people read it, in powers of 1,000: `20 MB`. */
export function formatBytes(bytes: number): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return new Intl.NumberFormat(language.value, {
    style: "unit",
    unit: units[unit] ?? "byte",
    unitDisplay: unit === 0 ? "long" : "short",
    maximumFractionDigits: value < 10 && unit > 0 ? 1 : 0,
  }).format(value);
}
