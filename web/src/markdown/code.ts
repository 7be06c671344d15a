/** Code blocks: a head with the language and a copy button, and colours for the languages we carry. */
import { library } from "./libraries";
import { escapeHtml } from "./text";
import type { RenderEnvironment } from "./types";

/** Beyond this, colours cost more than they help: each token is a node in the page. */
const MAX_HIGHLIGHTED = 30_000;
/** A block still being written is coloured anew each frame, so only while it is short. */
const MAX_HIGHLIGHTED_OPEN = 4_000;
const MAX_LANGUAGE_LENGTH = 30;

function highlighted(code: string, language: string, environment: RenderEnvironment): string {
  const limit = environment.isOpen ? MAX_HIGHLIGHTED_OPEN : MAX_HIGHLIGHTED;
  if (language === "" || code.length > limit) return escapeHtml(code);
  const highlight = library("highlight");
  if (highlight === undefined) {
    environment.missing.add("highlight");
    return escapeHtml(code);
  }
  if (highlight.getLanguage(language) === undefined) return escapeHtml(code);
  return highlight.highlight(code, { language, ignoreIllegals: true }).value;
}

/** `info` is what follows the fence, such as `python title="x"`: its first word is the language. */
export function renderCode(code: string, info: string, environment: RenderEnvironment): string {
  const name = (/^\S+/.exec(info.trim())?.[0] ?? "").slice(0, MAX_LANGUAGE_LENGTH);
  const { copyCode } = environment.labels;
  return (
    `<div class="md-code"><div class="md-code-head"><span class="md-code-language">${escapeHtml(name)}</span>` +
    `<button type="button" class="md-copy">${escapeHtml(copyCode)}</button></div>` +
    `<pre tabindex="0"><code>${highlighted(code, name.toLowerCase(), environment)}</code></pre></div>\n`
  );
}
