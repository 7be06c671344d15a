/**
 * LaTeX for markdown-it: `$..$`, `$$..$$`, `\(..\)` and `\[..\]`.
 *
 * Inline dollars follow pandoc's tex_math_dollars (no space inside the opening or closing dollar, no
 * digit after the closing one), and a little more, because answers about prices are common.
 */
import type { MarkdownIt, StateBlock, StateInline } from "markdown-it";
import type { RenderEnvironment } from "./types";

/** A formula whose opener stands alone on its line may hold blank lines, but not endlessly many lines. */
const MAX_LOOSE_LINES = 64;
const MAX_INLINE_LENGTH = 2_000;

const CLOSERS: Readonly<Record<string, string>> = { $$: "$$", "\\[": "\\]", "\\(": "\\)" };

function openerAt(source: string, position: number): string | undefined {
  const two = source.slice(position, position + 2);
  return two in CLOSERS ? two : undefined;
}

/** Where `close` next stands unescaped, or -1. A doubled backslash before it is a TeX line break. */
function findCloser(source: string, close: string, from: number, end: number): number {
  for (let at = source.indexOf(close, from); at >= 0 && at + close.length <= end; ) {
    let slashes = 0;
    while (at - slashes > from && source[at - slashes - 1] === "\\") slashes += 1;
    if (slashes % 2 === 0) return at;
    at = source.indexOf(close, at + 1);
  }
  return -1;
}

interface MathBlock {
  content: string;
  nextLine: number;
  isClosed: boolean;
}

/** The lines from `startLine` as a display formula; null when they turn out to be ordinary text. */
function readMathBlock(
  state: StateBlock,
  startLine: number,
  endLine: number,
  open: string,
): MathBlock | null {
  const close = CLOSERS[open] as string;
  const lines: string[] = [];
  for (let line = startLine; line < endLine; line += 1) {
    const isFirst = line === startLine;
    if (!isFirst && !state.isEmpty(line) && (state.sCount[line] ?? 0) < state.blkIndent) break;
    const begin = (state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0) + (isFirst ? open.length : 0);
    const end = state.eMarks[line] ?? begin;
    const at = findCloser(state.src, close, begin, end);
    if (at >= 0) {
      if (!/^[\s.,;:。，；]*$/.test(state.src.slice(at + close.length, end))) return null;
      lines.push(state.src.slice(begin, at));
      return { content: lines.join("\n"), nextLine: line + 1, isClosed: true };
    }
    const text = state.src.slice(begin, end);
    const isLoose = line === startLine ? text.trim() === "" : lines[0]?.trim() === "";
    if (!isFirst && text.trim() === "" && !isLoose) return null;
    if (line - startLine > MAX_LOOSE_LINES) return null;
    lines.push(text);
  }
  // Nothing has decided yet. Where no more can come, an opener without its closer is ordinary text.
  // Within a list or quote the end of the lines may be just its end, so there it is text as well.
  if (!(state.env as unknown as RenderEnvironment).isOpen || state.level > 0) return null;
  return { content: lines.join("\n"), nextLine: startLine + lines.length, isClosed: false };
}

function mathBlock(
  state: StateBlock,
  startLine: number,
  endLine: number,
  silent: boolean,
): boolean {
  if ((state.sCount[startLine] ?? 0) - state.blkIndent >= 4) return false;
  const begin = (state.bMarks[startLine] ?? 0) + (state.tShift[startLine] ?? 0);
  const open = openerAt(state.src, begin);
  if (open === undefined || open === "\\(") return false;
  if (silent) {
    // Whether a paragraph ends here must follow from this line alone: a stream has not seen the next.
    const end = state.eMarks[startLine] ?? begin;
    const at = findCloser(state.src, CLOSERS[open] as string, begin + 2, end);
    return at < 0 || state.src.slice(at + 2, end).trim() === "";
  }
  const block = readMathBlock(state, startLine, endLine, open);
  if (block === null) return false;
  const token = state.push("math_block", "", 0);
  token.block = true;
  token.content = block.content;
  token.markup = open;
  token.meta = { isClosed: block.isClosed };
  token.map = [startLine, block.nextLine];
  state.line = block.nextLine;
  return true;
}

/** Positions per closer from which on none was found, so that many openers stay linear. */
type Closers = Map<string, number>;
const knownClosers = new WeakMap<StateInline, Closers>();

function environmentOf(state: StateInline): RenderEnvironment {
  return state.env as unknown as RenderEnvironment;
}

function pushMath(state: StateInline, open: string, content: string, isClosed: boolean): void {
  const token = state.push("math_inline", "", 0);
  token.content = content;
  token.markup = open;
  token.meta = { isClosed };
}

function delimitedMath(state: StateInline, silent: boolean): boolean {
  const open = openerAt(state.src, state.pos);
  if (open === undefined) return false;
  const close = CLOSERS[open] as string;
  const start = state.pos + 2;
  const closers = knownClosers.get(state) ?? new Map<string, number>();
  knownClosers.set(state, closers);
  const known = closers.get(close);
  const isKnown = known !== undefined && (known < 0 || known >= start);
  const at = isKnown ? known : findCloser(state.src, close, start, state.src.length);
  closers.set(close, at);
  if (at < 0 || at + 2 > state.posMax) {
    if (at >= 0 || !environmentOf(state).isOpen) return false;
    if (!silent) pushMath(state, open, state.src.slice(start, state.posMax), false);
    state.pos = state.posMax;
    return true;
  }
  const content = state.src.slice(start, at);
  if (content.trim() === "") return false;
  if (!silent) pushMath(state, open, content, true);
  state.pos = at + 2;
  return true;
}

/** `$5 million and US$`: begins with a number, has words, and nothing that only TeX would have. */
function isMoney(content: string): boolean {
  return /^\d/.test(content) && !/[\\^_{}=<>+*]/.test(content) && /\p{L}{2}|\p{Lo}/u.test(content);
}

function dollarMath(state: StateInline, silent: boolean): boolean {
  const { src, pos, posMax } = state;
  if (src[pos] !== "$" || /[\s$]/.test(src[pos + 1] ?? " ")) return false;
  if (pos > 0 && /[A-Za-z0-9$\\]/.test(src[pos - 1] ?? "")) return false;
  const end = Math.min(posMax, pos + MAX_INLINE_LENGTH);
  for (let at = pos + 1; at < end; at += 1) {
    if (src[at] === "\\") at += 1;
    else if (src[at] === "$") {
      // The first dollar that can close decides; looking further would pair prices far apart.
      if (/\s/.test(src[at - 1] ?? "") || /[0-9]/.test(src[at + 1] ?? "")) return false;
      const content = src.slice(pos + 1, at);
      if (isMoney(content)) return false;
      if (!silent) pushMath(state, "$", content, true);
      state.pos = at + 1;
      return true;
    }
  }
  return false;
}

export function addMathRules(markdown: MarkdownIt): void {
  markdown.block.ruler.before("fence", "math_block", mathBlock, {
    alt: ["paragraph", "blockquote", "list"],
  });
  // Before `escape`, which would eat the backslash of `\(`.
  markdown.inline.ruler.before("escape", "math_delimited", delimitedMath);
  markdown.inline.ruler.after("math_delimited", "math_dollar", dollarMath);
}
