/**
 * Cuts a growing text into top-level Markdown blocks that no later character can change.
 *
 * A block is finished when a later block has begun on a complete line: with link definitions off, no
 * rule of the parser looks back across that line. So a finished block is parsed and drawn once, and
 * only the last, open one again as it grows.
 *
 * To keep the open block small, a paragraph or list that fills `MAX_OPEN_LENGTH` alone is divided (at
 * the end of a sentence, or before an item). The place follows from those characters alone, never
 * from how they arrived, so a stream and a text rendered in one go are cut alike.
 */
import { topLevelBlocks } from "./parser";

export interface Block {
  start: number;
  end: number;
  /** It goes on where the block before it was divided, so no gap belongs between them. */
  isContinuation: boolean;
}

export const MAX_OPEN_LENGTH = 4_000;

/** Ends of sentences, then lines, then words. What follows must be a letter: it cannot open a block. */
const BOUNDARIES = [
  /(?:[.!?]["')\]]*\s+|[。！？；…]["”’」』）]*\s*)(?=\p{L})/gu,
  /\n(?=\p{L})/gu,
  /(?:[，、,;:]\s*|\s+)(?=\p{L})/gu,
];

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

/** No code, formula, emphasis or link is open at the end of the text, as far as counting can tell. */
function isAtRest(text: string): boolean {
  const isEven = (part: string): boolean => count(text, part) % 2 === 0;
  const isPaired = (open: string, close: string): boolean => count(text, open) === count(text, close);
  return (
    isEven("`") && isEven("$") && isEven("**") && isPaired("[", "]") && isPaired("\\(", "\\)")
  );
}

/** Where a paragraph that fills the window is divided: in its second half. */
function paragraphCut(window: string): number {
  const half = window.length >> 1;
  for (const boundary of BOUNDARIES) {
    const ends = [...window.matchAll(boundary)].map((match) => match.index + match[0].length);
    const candidates = ends.filter((end) => end > half && end < window.length).reverse().slice(0, 40);
    const rest = candidates.find((end) => isAtRest(window.slice(0, end)));
    if (rest !== undefined) return rest;
    const last = candidates[0];
    if (last !== undefined && boundary === BOUNDARIES.at(-1)) return last;
  }
  const isSurrogatePair = /[\uD800-\uDBFF]/.test(window[window.length - 1] ?? "");
  return window.length - (isSurrogatePair ? 1 : 0);
}

/** The offsets at which blocks of the window end for good, or the one at which a block is divided. */
function blockEnds(window: string, isFull: boolean): { offsets: number[]; isDivision: boolean } {
  const blocks = topLevelBlocks(completeLines(window));
  if (blocks.length >= 2) {
    return { offsets: blocks.slice(1).map((block) => block.start), isDivision: false };
  }
  if (!isFull) return { offsets: [], isDivision: false };
  const [open, next] = topLevelBlocks(window);
  if (open?.kind === "paragraph_open") {
    return { offsets: [paragraphCut(window.slice(0, next?.start))], isDivision: true };
  }
  const item = blocks[0]?.itemStarts.at(-1) ?? 0;
  return { offsets: item > (blocks[0]?.start ?? 0) ? [item] : [], isDivision: true };
}

function completeLines(text: string): string {
  return text.slice(0, text.lastIndexOf("\n") + 1);
}

export class BlockSplitter {
  /** Everything before this offset is in finished blocks. */
  tailStart = 0;
  #isTailContinuation = false;
  /** Smaller windows than this were full and held no end: they need not be parsed again. */
  #size = MAX_OPEN_LENGTH;

  /** The blocks that have become finished. `text` starts with the text of the call before. */
  advance(text: string): Block[] {
    const finished: Block[] = [];
    for (;;) {
      const window = text.slice(this.tailStart, this.tailStart + this.#size);
      const isFull = window.length === this.#size;
      const ends = blockEnds(window, isFull);
      if (ends.offsets.length === 0 && !isFull) return finished;
      this.#size = ends.offsets.length === 0 ? this.#size * 2 : MAX_OPEN_LENGTH;
      const base = this.tailStart;
      for (const offset of ends.offsets) {
        finished.push(this.#block(base + offset));
        this.tailStart = base + offset;
        this.#isTailContinuation = ends.isDivision;
      }
    }
  }

  /** The blocks of the unfinished rest, as `shown`: their sources, and the last is still open. */
  tail(shown: string): { source: string; isContinuation: boolean }[] {
    const starts = topLevelBlocks(shown).map((block) => block.start);
    return starts.map((start, index) => ({
      source: shown.slice(index === 0 ? 0 : start, starts[index + 1]),
      isContinuation: index === 0 && this.#isTailContinuation,
    }));
  }

  #block(end: number): Block {
    return { start: this.tailStart, end, isContinuation: this.#isTailContinuation };
  }
}
