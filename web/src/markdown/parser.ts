/** The one markdown-it of the page: its rules, and how its tokens become HTML (not yet safe HTML). */
import createMarkdownIt from "markdown-it";
import type { MarkdownIt, Token } from "markdown-it";
import { addCitations } from "./citations";
import { renderCode } from "./code";
import { renderMath } from "./math";
import { addMathRules } from "./math_rules";
import { escapeHtml, isWebLink, withAsciiHost } from "./text";
import { addTidying } from "./tidy";
import type { RenderEnvironment } from "./types";

type Renderer = (token: Token, environment: RenderEnvironment) => string;

const renderers: Readonly<Record<string, Renderer>> = {
  fence: (token, environment) => renderCode(token.content, token.info, environment),
  code_block: (token, environment) => renderCode(token.content, "", environment),
  math_inline: (token, environment) =>
    renderMath(token, token.markup === "$$" || token.markup === "\\[", environment),
  math_block: (token, environment) =>
    `<div class="md-math-block" tabindex="0">${renderMath(token, true, environment)}</div>\n`,
  table_open: (_token, { labels }) =>
    `<div class="md-table" role="group" tabindex="0" aria-label="${escapeHtml(labels.table)}"><table>\n`,
  table_close: () => "</table></div>\n",
  link_host: (token) => ` <span class="md-host">(${escapeHtml(token.content)})</span>`,
  task_box: (token, { labels }) => {
    const isDone = token.meta?.isDone === true;
    const label = escapeHtml(isDone ? labels.done : labels.open);
    return `<input type="checkbox" disabled${isDone ? " checked" : ""} aria-label="${label}"> `;
  },
};

function createParser(): MarkdownIt {
  const markdown = createMarkdownIt({ html: false, linkify: true, breaks: true, typographer: false });
  markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
  markdown.validateLink = isWebLink;
  markdown.normalizeLinkText = withAsciiHost;
  // A definition may follow its use at any distance, which a stream that never redraws cannot honour.
  markdown.disable("reference");
  addMathRules(markdown);
  addCitations(markdown);
  addTidying(markdown);
  for (const [type, render] of Object.entries(renderers)) {
    markdown.renderer.rules[type] = (tokens, index, _options, environment) =>
      render(tokens[index] as Token, environment as unknown as RenderEnvironment);
  }
  return markdown;
}

const parser = createParser();

export function toHtml(block: string, environment: RenderEnvironment): string {
  return parser.render(block, environment as unknown as Record<string, unknown>);
}

/** A block that stands at the top of the text: its kind and the offset of its first line. */
export interface TopLevelBlock {
  kind: string;
  start: number;
  /** Offsets of the items when the block is a list, else empty. */
  itemStarts: number[];
}

function lineOffsets(text: string): number[] {
  const offsets = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) offsets.push(at + 1);
  return offsets;
}

/** The blocks of a text without their inline content, which is the cheap half of parsing. */
export function topLevelBlocks(text: string): TopLevelBlock[] {
  const tokens: Token[] = [];
  parser.block.parse(text, parser, { isOpen: true }, tokens);
  const offsets = lineOffsets(text);
  const blocks: TopLevelBlock[] = [];
  for (const token of tokens) {
    const start = offsets[token.map?.[0] ?? -1];
    if (start === undefined || token.nesting < 0) continue;
    if (token.level === 0) blocks.push({ kind: token.type, start, itemStarts: [] });
    else if (token.level === 1 && token.type === "list_item_open") blocks.at(-1)?.itemStarts.push(start);
  }
  return blocks;
}
