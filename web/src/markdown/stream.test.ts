import { beforeAll, describe, expect, it } from "vitest";
import { loadLibrary } from "./libraries";
import { DOCUMENTS, randomDocument, randomPieces, seeded } from "./stream_corpus";
import { MarkdownStream } from "./stream";
import { ENGLISH_LABELS, type Source } from "./types";

const SOURCES: Source[] = [1, 2, 3].map((index) => ({
  index,
  title: `Title ${index}`,
  url: `https://example.com/${index}`,
  site: "example.com",
  date: null,
  snippet: "",
}));
/** Only so that a busy machine fails nothing. */
const NO_HURRY_MS = 120_000;
const OPTIONS = { sources: SOURCES, labels: ENGLISH_LABELS };

function inOneGo(text: string): HTMLElement {
  const root = document.createElement("div");
  new MarkdownStream(root, OPTIONS).update(text, false);
  return root;
}

function streamed(pieces: readonly string[]): HTMLElement {
  const root = document.createElement("div");
  const stream = new MarkdownStream(root, OPTIONS);
  let text = "";
  for (const piece of pieces) {
    text += piece;
    stream.update(text, true);
  }
  stream.update(text, false);
  return root;
}

beforeAll(async () => {
  await Promise.all([loadLibrary("katex"), loadLibrary("highlight")]);
}, NO_HURRY_MS);

describe("a stream ends with the HTML of a text rendered in one go", () => {
  it.each(Object.entries(DOCUMENTS))("%s", (_name, text) => {
    const pieces = randomPieces(text, seeded(text.length), 16);
    expect(streamed(pieces).innerHTML).toBe(inOneGo(text).innerHTML);
  });

  it("for 8 random documents", () => {
    for (let seed = 1; seed <= 8; seed += 1) {
      const random = seeded(seed);
      const text = randomDocument(random);
      const root = streamed(randomPieces(text, random, 60));
      expect(root.innerHTML, `seed ${seed}`).toBe(inOneGo(text).innerHTML);
    }
  }, NO_HURRY_MS);
});

describe("blocks", () => {
  it("are never touched again once they are finished", () => {
    const root = document.createElement("div");
    const stream = new MarkdownStream(root, OPTIONS);
    stream.update("# Title\n\nFirst.\n\nSec", true);
    const [title, first, second] = [...root.children];
    const observer = new MutationObserver(() => {});
    observer.observe(root, { subtree: true, childList: true, characterData: true, attributes: true });
    stream.update("# Title\n\nFirst.\n\nSecond and more", true);
    const touched = observer.takeRecords().map((record) => record.target);
    expect(touched.every((node) => second?.contains(node))).toBe(true);
    expect([...root.children]).toEqual([title, first, second]);
  });
});

describe("while a text is unfinished", () => {
  const open = (text: string): HTMLElement => {
    const root = document.createElement("div");
    new MarkdownStream(root, OPTIONS).update(text, true);
    return root;
  };

  it.each([
    ["a fence is code from its first line on", "```python\nprint(1", "pre code", "print(1"],
    ["a closing fence in the making is not code", "```\ncode\n``", "pre code", "code\n"],
    ["bold text is bold before it is closed", "This is **bol", "strong", "bol"],
    ["code is code before it is closed", "Call `f(x", "p > code", "f(x"],
    ["a header row is a table already", "| Name | Age", "th", "Name"],
    ["a delimiter row in the making is not shown", "| Name | Age |\n|--", "th", "Name"],
    ["a display formula is its source", "$$\nx^2", "code.md-math-pending", "$$\nx^2"],
    ["an inline formula is its source", "so \\(x^2", "code.md-math-pending", "\\(x^2"],
  ])("%s", (_name, text, selector, shown) => {
    expect(open(text).querySelector(selector)?.textContent).toBe(shown);
  });

  it.each([
    ["Text [cita", "Text "],
    ["Text [citation:1", "Text "],
    ["Text **", "Text "],
    ["Text ``", "Text "],
  ])("%j shows %j", (text, shown) => {
    expect(open(text).textContent?.trimEnd()).toBe(shown.trimEnd());
  });
});
