/** Formulas: KaTeX with everything that reaches outside the formula switched off. */
import type { Token } from "markdown-it";
import { library } from "./libraries";
import { escapeHtml } from "./text";
import type { RenderEnvironment } from "./types";

/** Longer than any formula in an answer; what is longer is shown as its source. */
const MAX_FORMULA_LENGTH = 5_000;
const MAX_CACHED = 400;

/** A stream draws its open block many times a second; the same formula is typeset once. */
const cache = new Map<string, string>();

function remember(key: string, html: string): string {
  if (cache.size >= MAX_CACHED) cache.delete(cache.keys().next().value as string);
  cache.set(key, html);
  return html;
}

function sourceOf(token: Token): string {
  const close = { $: "$", $$: "$$", "\\(": "\\)", "\\[": "\\]" }[token.markup] ?? "";
  return token.markup + token.content + (token.meta?.isClosed === true ? close : "");
}

/** The TeX itself, in code: while it is being written or loaded, and when KaTeX refuses it. */
function renderSource(token: Token, state: "pending" | "error", title = ""): string {
  const hint = title === "" ? "" : ` title="${escapeHtml(title)}"`;
  return `<code class="md-math-source md-math-${state}"${hint}>${escapeHtml(sourceOf(token))}</code>`;
}

/** A formula may define macros, but one that does gets few expansions: each may double the text. */
function maxExpansions(tex: string): number {
  return /\\(?:[egx]?def|let|futurelet|(?:re)?newcommand|providecommand)/.test(tex) ? 40 : 1_000;
}

function typeset(token: Token, isDisplay: boolean): string {
  const katex = library("katex");
  const tex = token.content.replace(/\n[ \t]*(?=\n)/g, "").trim();
  if (katex === undefined) return renderSource(token, "pending");
  if (tex.length > MAX_FORMULA_LENGTH) return renderSource(token, "error", "Too long to typeset");
  try {
    const html = katex.renderToString(tex, {
      displayMode: isDisplay,
      output: "html",
      trust: false,
      strict: "ignore",
      throwOnError: true,
      maxExpand: maxExpansions(tex),
      maxSize: 20,
      macros: {},
    });
    // A strict policy (`style-src 'self'`) refuses style attributes; sanitize() sets them by script.
    // Text cannot imitate one: KaTeX escapes its quotes.
    const drawn = html.replaceAll(' style="', ' data-style="');
    // KaTeX marks its HTML aria-hidden; a screen reader gets the TeX.
    return `<span class="md-math" role="img" aria-label="${escapeHtml(tex)}">${drawn}</span>`;
  } catch (error) {
    return renderSource(token, "error", error instanceof Error ? error.message : String(error));
  }
}

export function renderMath(token: Token, isDisplay: boolean, environment: RenderEnvironment): string {
  if (token.meta?.isClosed !== true) return renderSource(token, "pending");
  const isReady = library("katex") !== undefined;
  if (!isReady) environment.missing.add("katex");
  const key = `${isReady}${isDisplay}${token.markup}${token.content}`;
  return cache.get(key) ?? remember(key, typeset(token, isDisplay));
}
