import { beforeAll, describe, expect, it } from "vitest";
import { HOSTILE_OUTPUTS, wholeText, type HostileOutput } from "./hostile_outputs";
import { loadLibrary } from "./libraries";
import { toHtml, topLevelBlocks } from "./parser";
import { katexStyle, sanitize } from "./sanitize";
import { MarkdownStream } from "./stream";
import { ENGLISH_LABELS, type LazyLibrary } from "./types";

const SOURCE = { index: 1, title: "One", url: "https://one.example", site: "", date: null, snippet: "" };
const OPTIONS = { sources: [SOURCE], labels: ENGLISH_LABELS };
const NO_HURRY_MS = 120_000;

/** What no output may ever contain, whatever its own row says. */
const NEVER =
  "script, style, iframe, object, embed, form, base, meta, link, img, picture, video, audio, math, template, " +
  "[id], [name], [src], [srcset], [srcdoc], [action], [formaction], [background], input:not([type=checkbox])";

function render(text: string): HTMLElement {
  const root = document.createElement("div");
  new MarkdownStream(root, OPTIONS).update(text, false);
  return root;
}

function expectSafe(root: HTMLElement): void {
  expect(root.querySelector(NEVER)).toBeNull();
  for (const element of root.querySelectorAll("*")) {
    for (const { name, value } of element.attributes) {
      expect(name).not.toMatch(/^on|^xlink|^xmlns:/);
      if (name === "href") expect(value).toMatch(/^(?:https?:\/\/|mailto:)/i);
      if (name === "style") expect(element.closest(".katex")).not.toBeNull();
    }
  }
  for (const link of root.querySelectorAll("a")) {
    expect(link.rel).toBe("noopener noreferrer nofollow");
    expect(link.target).toBe("_blank");
  }
}

beforeAll(() => Promise.all([loadLibrary("katex"), loadLibrary("highlight")]), NO_HURRY_MS);

const small = HOSTILE_OUTPUTS.filter((output) => (output.repeat ?? 1) === 1);
const large = HOSTILE_OUTPUTS.filter((output) => (output.repeat ?? 1) > 1);

describe("hostile outputs", () => {
  it("are at least 50, each with its own name", () => {
    expect(HOSTILE_OUTPUTS.length).toBeGreaterThanOrEqual(50);
    expect(new Set(HOSTILE_OUTPUTS.map((output) => output.name)).size).toBe(HOSTILE_OUTPUTS.length);
  });

  it.each(small.map((output) => [output.name, output] as const))("%s", (_name, output) => {
    const root = render(wholeText(output));
    expectSafe(root);
    for (const selector of output.must_not) expect(root.querySelector(selector), selector).toBeNull();
    for (const selector of output.may) expect(root.querySelector(selector), selector).not.toBeNull();
  });

  it("a bidi override is shown, not obeyed", () => {
    expect(render("a\u202Eb\u2066c").textContent?.trim()).toBe("a\uFFFDb\uFFFDc");
  });
});

/** Processor time in milliseconds at its best of three: another program's load does not count. */
function processorTime(run: () => void): number {
  const times = [1, 2, 3].map(() => {
    const start = process.cpuUsage();
    run();
    return process.cpuUsage(start).user / 1_000;
  });
  return Math.min(...times);
}

/** Parsed and rendered as one block, which is harder than the page's way of dividing long ones. */
function parse(output: HostileOutput, numCharacters: number): void {
  const text = wholeText({ ...output, repeat: Math.ceil(numCharacters / output.text.length) });
  topLevelBlocks(text);
  toHtml(text, { ...OPTIONS, isOpen: false, missing: new Set<LazyLibrary>() });
}

describe("long hostile outputs", () => {
  it.each(large.map((output) => [output.name, output] as const))(
    "%s: safe, as long as a message may be",
    (_name, output) => {
      const root = render(wholeText({ ...output, repeat: Math.min(output.repeat ?? 1, 800) }));
      expectSafe(root);
      for (const selector of output.must_not) expect(root.querySelector(selector), selector).toBeNull();
      for (const selector of output.may) expect(root.querySelector(selector), selector).not.toBeNull();
    },
    NO_HURRY_MS,
  );

  it.each(large.map((output) => [output.name, output] as const))(
    "%s: eight times the text takes about eight times as long, not 64",
    (_name, output) => {
      const short = processorTime(() => parse(output, 5_000));
      const long = processorTime(() => parse(output, 40_000));
      expect(long).toBeLessThan(28 * Math.max(short, 2));
    },
    NO_HURRY_MS,
  );
});

describe("the last wall, without the parser before it", () => {
  it.each([
    "<img src=x onerror=alert(1)>",
    "<svg><path d='M0 0'></path></svg>",
    "<svg><script>alert(1)</script></svg>",
    "<div style='position:fixed'>x</div>",
    "<a href='javascript:alert(1)'>x</a><a href='/api/chats'>y</a>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<form><input name=attributes><input id=parentNode></form>",
    "<span class='katex'><span data-style='background:url(//evil.example);color:red'>x</span></span>",
    "<span data-style='color:red'>x</span>",
  ])("%s", (html) => {
    const root = document.createElement("div");
    root.append(sanitize(html));
    expect(root.querySelector("img, script, form, math, style, a[href], [id], [name], [onerror]")).toBeNull();
    expect(root.querySelector("svg")).toBeNull();
    expect(root.querySelector("[data-style]")).toBeNull();
    for (const element of root.querySelectorAll<HTMLElement>("[style]")) {
      expect(element.closest(".katex")).not.toBeNull();
      expect(element.style.cssText).toBe("color: red;");
    }
  });

  it.each([
    ["height:1.2em;vertical-align:-0.3em;", "height:1.2em;vertical-align:-0.3em"],
    ["color:red;position:fixed", "color:red"],
    ["position:relative;top:-2.5em", "position:relative;top:-2.5em"],
    ["background-color:url(x)", ""],
    ["width:calc(100% + 0.12em)", "width:calc(100% + 0.12em)"],
    ["color:expression(alert(1))", ""],
    ["--x:red;content:'x';color:#12ab", "color:#12ab"],
  ])("of the style %j, %j stays", (style, kept) => expect(katexStyle(style)).toBe(kept));
});
