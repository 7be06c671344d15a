/**
 * The open end of a stream as it is shown: markup in the making is completed or held back, so that
 * nothing flashes up as raw text and then changes its shape. Only the view changes, never the text.
 */

const CITATION_START = "[citation:";

/** `[cita` or `[citation:1` at the end: shown once its bracket closes. */
function withoutPartialCitation(text: string): string {
  const at = text.lastIndexOf("[");
  if (at < 0) return text;
  const rest = text.slice(at);
  const isPartial = CITATION_START.startsWith(rest) || /^\[citation:\d{1,4}$/.test(rest);
  return isPartial ? text.slice(0, at) : text;
}

function isInFence(text: string): boolean {
  let fence = "";
  for (const line of text.split("\n")) {
    const marker = /^ {0,3}(`{3,}|~{3,})(.*)$/.exec(line);
    const [, run = "", after = ""] = marker ?? [];
    if (run === "") continue;
    if (fence === "") fence = run[0] === "`" && after.includes("`") ? "" : run;
    else if (run.startsWith(fence) && after.trim() === "") fence = "";
  }
  return fence !== "";
}

/** A header row without its delimiter row: given one, it is a table from its first cell on. */
function withTableDelimiter(text: string): string {
  const match = /(?:^|\n)( {0,3}\|[ \t][^\n]*)(?:\n {0,3}\|?[-:| \t]*)?$/.exec(text);
  const header = match?.[1];
  if (match === null || header === undefined) return text;
  const before = text.slice(0, match.index).split("\n").at(-1) ?? "";
  const isFirstRow = !before.includes("|");
  const cells = header.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).length;
  if (!isFirstRow) return text;
  const prefix = text.slice(0, match.index) + (match[0].startsWith("\n") ? "\n" : "");
  return `${prefix}${header}\n|${"---|".repeat(cells)}`;
}

/** Emphasis and inline code that have begun in the last paragraph, closed. */
function withClosedSpans(text: string): string {
  const start = text.lastIndexOf("\n\n") + 1;
  const shown = text.slice(start).replace(/(?:[*_`~$]+|\\)$/, "");
  const count = (mark: string): number => shown.split(mark).length - 1;
  let closing = "";
  if (count("`") % 2 === 1) closing = "`";
  else if (count("**") % 2 === 1 && !/\*\*\s*$/.test(shown)) closing = "**";
  const body = closing === "" ? shown : shown.trimEnd();
  return text.slice(0, start) + body + closing;
}

export function completed(tail: string): string {
  if (isInFence(tail)) return tail.replace(/\n {0,3}(?:`{1,2}|~{1,2})$/, "\n");
  if (/(?:^|\n)[ \t]*(?:\$\$|\\\[)[^\n]*(?:\n[^\n]+)*$/.test(tail.slice(-2_000))) return tail;
  const text = withoutPartialCitation(tail.replace(/(^|\n) {0,3}(?:`{1,2}|~{1,2})$/, "$1"));
  const table = withTableDelimiter(text);
  return table === text ? withClosedSpans(text) : table;
}
