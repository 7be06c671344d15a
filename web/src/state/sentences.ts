/** What a screen reader is told of a growing reply: whole sentences, never single tokens. */

// Latin marks end a sentence only before a space; CJK marks end it by themselves.
const SENTENCE_END = /[.!?…]["'”’)\]]*(?=\s)|[。！？][」』”）]*|\n+/g;

/** The length of the part of `text` that is whole sentences. */
export function wholeSentences(text: string): number {
  let end = 0;
  for (const match of text.matchAll(SENTENCE_END)) end = match.index + match[0].length;
  return end;
}

/** Markdown without its marks, for reading aloud. */
export function spoken(markdown: string): string {
  return markdown
    .replace(/\[citation:\d+\]/g, "")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    // The line under a table's head.
    .replace(/^[ \t]*[|:-][-|: \t]*-[-|: \t]*$/gm, "")
    .replace(/^\s*(?:[-*+]|#{1,6}|>|```\w*)\s*/gm, "")
    .replace(/[*_`|]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
}
