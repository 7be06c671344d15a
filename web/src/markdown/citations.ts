/** `[citation:3]` of the official search prompts: a numbered link when source 3 exists, else text. */
import type { MarkdownIt, StateInline, Token } from "markdown-it";
import { escapeHtml, isWebLink } from "./text";
import type { RenderEnvironment } from "./types";

const CITATION = /\[citation:(\d{1,4})\]/y;

function citation(state: StateInline, silent: boolean): boolean {
  CITATION.lastIndex = state.pos;
  const match = CITATION.exec(state.src);
  // A citation inside a link's text stays text: a link cannot hold a link.
  if (match === null || state.linkLevel > 0) return false;
  const index = Number(match[1]);
  const source = (state.env as unknown as RenderEnvironment).sources.find((one) => one.index === index);
  if (source === undefined) return false;
  if (!silent) state.push("citation", "", 0).meta = { ...source };
  state.pos += match[0].length;
  return true;
}

function renderCitation(token: Token, environment: RenderEnvironment): string {
  const source = token.meta as unknown as RenderEnvironment["sources"][number];
  const name = escapeHtml(`${environment.labels.source(source.index)}: ${source.title}`);
  const shared = `class="md-citation" data-citation="${source.index}" aria-label="${name}"`;
  // A hit from the user's own folder has no web address: it has a card and leads nowhere.
  if (!isWebLink(source.url)) return `<button type="button" ${shared}>${source.index}</button>`;
  const href = escapeHtml(source.url);
  return `<a ${shared} href="${href}" target="_blank" rel="noopener noreferrer nofollow">${source.index}</a>`;
}

export function addCitations(markdown: MarkdownIt): void {
  markdown.inline.ruler.before("link", "citation", citation);
  markdown.renderer.rules.citation = (tokens, index, _options, environment) =>
    renderCitation(tokens[index] as Token, environment as unknown as RenderEnvironment);
}
