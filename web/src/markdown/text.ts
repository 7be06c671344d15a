/** Small questions about text that the rules and renderers share. */

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
};

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => ENTITIES[character] as string);
}

/** Only absolute web and mail addresses; a relative one would lead into our own API. */
export function isWebLink(url: string): boolean {
  return /^(?:https?:\/\/|mailto:)[^\s]/i.test(url);
}

/** An international name in its ASCII form: look-alike letters would hide where a link leads. */
export function withAsciiHost(url: string): string {
  const host = /^https?:\/\/([^/?#]+)/i.exec(url)?.[1];
  if (host === undefined || /^[\x21-\x7e]+$/.test(host) || !URL.canParse(url)) return url;
  return url.replace(host, new URL(url).host);
}

/**
 * The text as every later step sees it. Line ends become `\n` (a lone `\r` too, so that a chunk that
 * ends between `\r` and `\n` changes nothing) and bidi overrides, which make text read otherwise than
 * it is (CVE-2021-42574), become a visible sign. One character stays one: offsets hold in a stream.
 */
export function normalise(text: string): string {
  const lines = text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
  return lines.replace(/[\0\u202A-\u202E\u2066-\u2069]/g, "\uFFFD");
}
