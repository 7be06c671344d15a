// @vitest-environment node
import { describe, expect, it } from "vitest";
import { BlockSplitter, MAX_OPEN_LENGTH } from "./blocks";
import { toHtml } from "./parser";
import { DOCUMENTS, randomDocument, randomPieces, seeded } from "./stream_corpus";
import { normalise } from "./text";
import { ENGLISH_LABELS } from "./types";

/** Only so that a busy machine fails nothing. */
const NO_HURRY_MS = 120_000;

/** Every block as `continuation: source`, from a text that arrives in pieces. */
function blocksOf(pieces: readonly string[]): string[] {
  const splitter = new BlockSplitter();
  const blocks: string[] = [];
  let raw = "";
  let text = "";
  for (const piece of pieces) {
    raw += piece;
    text = normalise(raw);
    for (const { start, end, isContinuation } of splitter.advance(text)) {
      blocks.push(`${isContinuation}: ${text.slice(start, end)}`);
    }
  }
  const tail = splitter.tail(text.slice(splitter.tailStart));
  return [...blocks, ...tail.map(({ source, isContinuation }) => `${isContinuation}: ${source}`)];
}

function html(text: string): string {
  const environment = { sources: [], labels: ENGLISH_LABELS, isOpen: false, missing: new Set<never>() };
  return toHtml(normalise(text), environment).trim();
}

describe("a stream is cut as the whole text is", () => {
  it.each(Object.entries(DOCUMENTS))("%s, one character at a time", (_name, text) => {
    expect(blocksOf(text.split(""))).toEqual(blocksOf([text]));
  });

  it("for 300 random documents in random pieces", () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      const random = seeded(seed);
      const text = randomDocument(random);
      expect(blocksOf(randomPieces(text, random)), `seed ${seed}`).toEqual(blocksOf([text]));
    }
  }, NO_HURRY_MS);

  const sentence = "Der Satz hat `code`, $x^2$ und **fett** darin. ";
  it.each([
    ["one paragraph", sentence.repeat(400)],
    ["one paragraph of short lines", "words in a line\nand the next\n".repeat(400)],
    ["one list", "- an item with [a link](https://example.com) in it\n".repeat(400)],
    ["one numbered list", "1. one\n   more\n".repeat(900)],
    ["Chinese without spaces", "词语没有空格".repeat(2_000)],
    ["one word", "a".repeat(9_001)],
    ["pairs of surrogates", "x😀".repeat(4_000)],
    ["one quote", `> ${sentence.repeat(120)}\n`.repeat(3)],
    ["a long fence between long paragraphs", `${sentence.repeat(99)}\n\`\`\`\n${"x\n".repeat(9_000)}\`\`\`\n${sentence.repeat(99)}`],
    ["blank lines", `a${"\n".repeat(9_000)}b`],
  ])("when blocks are longer than a window: %s", (_name, text) => {
    const whole = blocksOf([text]);
    const random = seeded(text.length);
    expect(blocksOf(randomPieces(text, random, 900))).toEqual(whole);
    expect(whole.map((block) => block.replace(/^\w+: /, "")).join("")).toBe(text);
  }, NO_HURRY_MS);
});

const LONE_SURROGATE = /\p{Cs}/u;

describe("blocks", () => {
  it("mean what the whole text means, for 200 documents that need no division", () => {
    for (let seed = 1_000; seed < 1_200; seed += 1) {
      const text = randomDocument(seeded(seed));
      if (text.length > MAX_OPEN_LENGTH) continue;
      const parts = blocksOf([text]).map((block) => html(block.replace(/^\w+: /, "")));
      expect(parts.join("\n"), `seed ${seed}`).toBe(html(text));
    }
  });

  it("stay small: 100,000 characters in one paragraph make at least 25, none cut in a word", () => {
    const blocks = blocksOf(["Words without any blank line between them. ".repeat(2_326)]);
    expect(blocks.length).toBeGreaterThanOrEqual(25);
    for (const block of blocks) expect(block.length).toBeLessThanOrEqual(MAX_OPEN_LENGTH + 10);
    for (const block of blocks) expect(block).toMatch(/: Words.*them\. $/s);
  });

  it("never part a surrogate pair", () => {
    for (const block of blocksOf(["x😀".repeat(4_000)])) expect(block).not.toMatch(LONE_SURROGATE);
  });
});
