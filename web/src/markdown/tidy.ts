/**
 * One pass over a block's tokens after parsing: images become links (a remote image would tell its
 * server that the chat was read), links say where they lead, `[ ]` items become boxes, and table
 * alignment becomes a class.
 */
import type { MarkdownIt, StateCore, Token } from "markdown-it";
import { isWebLink } from "./text";
import type { RenderEnvironment } from "./types";

type NewToken = (type: string, tag: string, nesting: -1 | 0 | 1) => Token;

function textToken(create: NewToken, content: string): Token {
  const token = create("text", "", 0);
  token.content = content;
  return token;
}

function secure(link: Token): void {
  link.attrSet("target", "_blank");
  link.attrSet("rel", "noopener noreferrer nofollow");
}

/** The alt text of an image, as a link to it unless it already stands in a link. */
function imageAsLink(image: Token, isInLink: boolean, create: NewToken, word: string): Token[] {
  const url = String(image.attrGet("src") ?? "");
  const alt = (image.children ?? []).map((child) => child.content).join("");
  const text = textToken(create, alt || word);
  if (isInLink || !isWebLink(url)) return [text];
  const open = create("link_open", "a", 1);
  open.attrSet("href", url);
  open.attrSet("class", "md-image");
  secure(open);
  return [open, text, create("link_close", "a", -1)];
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host.replace(/^www\./, "") : "";
}

/** The host a link's text claims to lead to, as it is written, if it reads like an address. */
function claimedHost(text: string): string {
  const match = /^\s*(?:https?:\/\/)?((?:[\p{L}\p{N}-]+\.)+[\p{L}]{2,})(?:[:/?#].*)?\s*$/iu.exec(text);
  return match?.[1]?.toLowerCase().replace(/^www\./, "") ?? "";
}

/** ` (evil.example)` after a link whose text names another site than the one it opens. */
function trueHost(href: string, text: string, create: NewToken): Token[] {
  const claimed = claimedHost(text);
  const host = hostOf(href);
  if (claimed === "" || host === "" || claimed === host.replace(/:\d+$/, "")) return [];
  const note = create("link_host", "", 0);
  note.content = host;
  return [note];
}

function tidyInline(children: readonly Token[], create: NewToken, word: string): Token[] {
  const result: Token[] = [];
  let href: string | null = null;
  let linkText = "";
  for (const token of children) {
    if (token.type === "link_open") {
      secure(token);
      href = String(token.attrGet("href") ?? "");
      token.attrSet("title", href);
      linkText = "";
    }
    if (token.type === "link_close" && href !== null) {
      result.push(token, ...trueHost(href, linkText, create));
      href = null;
    } else if (token.type === "image") {
      result.push(...imageAsLink(token, href !== null, create, word));
    } else {
      if (href !== null) linkText += token.content;
      result.push(token);
    }
  }
  return result;
}

function addTaskBox(tokens: readonly Token[], index: number, create: NewToken): void {
  const inline = tokens[index];
  const item = tokens[index - 2];
  const first = inline?.children?.[0];
  if (item?.type !== "list_item_open" || tokens[index - 1]?.type !== "paragraph_open") return;
  const match = first?.type === "text" ? /^\[([ xX])\]\s/.exec(first.content) : null;
  if (match === null || first === undefined) return;
  first.content = first.content.slice(match[0].length);
  const box = create("task_box", "input", 0);
  box.meta = { isDone: match[1] !== " " };
  inline?.children?.unshift(box);
  item.attrJoin("class", "md-task");
}

function alignByClass(cell: Token): void {
  const align = /text-align:(\w+)/.exec(String(cell.attrGet("style") ?? ""))?.[1];
  if (align !== undefined) cell.attrs = [["class", `md-${align}`]];
}

function tidy(state: StateCore): void {
  const create: NewToken = (type, tag, nesting) => new state.Token(type, tag, nesting);
  const { labels } = state.env as unknown as RenderEnvironment;
  state.tokens.forEach((token, index) => {
    if (token.type === "th_open" || token.type === "td_open") alignByClass(token);
    if (token.type !== "inline" || token.children === null) return;
    token.children = tidyInline(token.children, create, labels.image);
    addTaskBox(state.tokens, index, create);
  });
}

export function addTidying(markdown: MarkdownIt): void {
  markdown.core.ruler.push("tidy", tidy);
}
