import { afterEach, expect, test } from "vitest";
import { DICTIONARIES, formatBytes, formatNumber, language, preferredLanguage, t } from "../src/i18n";

afterEach(() => {
  language.value = "en";
});

const { en, ...OTHERS } = DICTIONARIES;
/** Names that are the same in each language. */
const SAME = ["topP", "about"];

/** Every text of a dictionary, those of functions with arguments that can be found again. */
function texts(dictionary: object): Record<string, string> {
  const shown = Object.entries(dictionary).map(([name, value]) => {
    if (typeof value === "function") return [name, String(value("7", "8", "9"))];
    return [name, typeof value === "string" ? value : JSON.stringify(value)];
  });
  return Object.fromEntries(shown) as Record<string, string>;
}

test.each(Object.entries(OTHERS))("%s says everything, in its own words", (_, dictionary) => {
  const own = texts(dictionary);
  const english = texts(en);
  expect(Object.keys(own).sort()).toEqual(Object.keys(english).sort());
  for (const [name, text] of Object.entries(own)) {
    expect(text.trim(), name).not.toBe("");
    if (!SAME.includes(name)) expect(text, name).not.toBe(english[name]);
    if (typeof en[name as keyof typeof en] !== "function") continue;
    expect(text.match(/[789]/g)?.sort(), name).toEqual(english[name]?.match(/[789]/g)?.sort());
  }
  expect(dictionary.examples.length).toBe(en.examples.length);
});

test.each([
  [["de", "ja-JP", "en"], "ja"],
  [["zh-Hant-TW"], "zh"],
  [["KO"], "ko"],
  [["fr", "toString"], "en"],
  [[], "en"],
])("%j speaks %s", (tags, expected) => {
  expect(preferredLanguage(tags)).toBe(expected);
});

test("a change of language changes the words", () => {
  expect(t.value.send).toBe("Send");
  language.value = "ja";
  expect(t.value.send).toBe("送信");
});

test("sizes and numbers", () => {
  expect([0, 999, 1000, 1500, 999_999, 20_000_000].map(formatBytes)).toEqual([
    "0 bytes",
    "999 bytes",
    "1 kB",
    "1.5 kB",
    "1 MB",
    "20 MB",
  ]);
  expect(formatNumber(1234.56, 1)).toBe("1,234.6");
});
