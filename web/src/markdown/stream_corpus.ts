/** Texts for the tests and the benchmark: what models write, and every construct next to every other. */

export const DOCUMENTS: Readonly<Record<string, string>> = {
  prose: "# Title\n\nA paragraph with *emphasis*, **bold**, `code` and a\nsecond line.\n\nAnother one.\n",
  setext: "Heading\n=======\nText\n---\nafter\n\n***\n",
  fences: "Look:\n```python\ndef f(x):\n    return `x`\n\n# no heading\n```\nafter\n~~~\n```\n~~~\n\n```js\nopen",
  nested_fences: "````markdown\n```python\nprint(1)\n```\n````\n- item\n  ```\n  in item\n\n  more\n  ```\n- next\n",
  lists: "1. one\n2. two\n\n   loose\n\n   - deep\n     - deeper\n\n3. three\nlazy\n\n\n- [ ] open\n- [x] done\n",
  tables: "Text\n| a | b |\n|---|:-:|\n| 1 | `x|y` |\n| 2 |\n\nnot | a table\n\na|b\n-|-\n1|2\ntail\n",
  display_math: "So\n$$\n\\frac{a}{b}\n\n= c\n$$\nand\n\\[ x^2 \\]\nthen $$y$$ inline.\n\n$$ unclosed\n\ntext\n",
  inline_math: "Let $x_1$ and \\(y\\), not $5 and $10, nor US$3. Escaped \\$a\\$.\n\n\\(open\n\nend $$",
  quotes: "> quote\nlazy\n> - list\n>   more\n\n> > deep\n\ntext\n> again\n",
  indented: "    code\n\n    more\n\ntext\n    not code\n\n\ttab\n",
  links: "[a](https://example.com \"t\") <https://x.example> https://y.example/z?q=1. ![i](https://z.example/i.png)\n",
  citations: "据报道[citation:1][citation:2]，价格上涨[citation:9]。更多[citation:3].\n\n- 见[citation:1]\n",
  html: "<div>\n<b>no</b>\n\n<script>x</script>\n\n&lt;p&gt; &amp; &#35;\n",
  line_ends: "a\r\nb\r\rc\r\n\r\n```\r\nx\r\n```\r\n",
  unicode: "Emoji 😀👩‍👩‍👧 und 日本語の段落。\n\n**中文**强调，`代码`。\u202Eabc\u202C\n",
  rules: "a\n-\nb\n--\nc\n\n- a\n---\n- b\n-\n\n+ c\n1) d\n",
  definitions: "[a]\n\n[a]: https://example.com\n\n[^1]: note\n",
  dollars: "$$\n\n\n$$ $ $$ $a$$b$ \\[ \\( $\n\\]\n\n$$\na\n$$ b\n",
};

export type Random = () => number;

/** mulberry32: small, and the same everywhere. */
export function seeded(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export function pick<Item>(items: readonly Item[], random: Random): Item {
  return items[Math.floor(random() * items.length)] as Item;
}

const SCRAPS = [
  "\n", "\n\n", "\n\n\n", "- ", "\n- ", "\n1. ", "    ", "\n> ", "```", "\n```\n", "~~~\n", "$$", "$", "\\[", "\\]",
  "\\(", "\\)", "| a | b |\n", "|---|---|\n", "# ", "===\n", "---\n", "**", "*", "`", "[citation:1]", "[", "](https://e.example)",
  "text ", "Wort", "字。", "😀", "\r\n", "\r", "\t", "  \n", "<b>", "&amp;", "\\", "x^2", "\n   ", "!", ":", "\u202E",
];

/** Lines of the documents and single marks in any order, so that constructs meet and cut each other. */
export function randomDocument(random: Random): string {
  const lines = Object.values(DOCUMENTS).flatMap((text) => text.split(/(?<=\n)/));
  const length = 5 + Math.floor(random() * 60);
  let text = "";
  for (let index = 0; index < length; index += 1) {
    const kind = random();
    if (kind < 0.45) text += pick(lines, random);
    else if (kind < 0.9) text += pick(SCRAPS, random);
    else text += pick(Object.values(DOCUMENTS), random);
  }
  return text;
}

/** The text in pieces of 1 to `longest` UTF-16 units: cut inside characters, tags and markers too. */
export function randomPieces(text: string, random: Random, longest = 24): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < text.length; ) {
    const end = at + 1 + Math.floor(random() * longest);
    pieces.push(text.slice(at, end));
    at = end;
  }
  return pieces;
}
