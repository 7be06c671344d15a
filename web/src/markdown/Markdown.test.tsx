import { render } from "preact";
import { act } from "preact/test-utils";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { Markdown } from "./Markdown";
import type { Source } from "./types";

const SOURCE: Source = {
  index: 1,
  title: 'A "title"',
  url: "https://example.com/a",
  site: "example.com",
  date: null,
  snippet: "",
};

let root: HTMLElement;
beforeEach(() => (root = document.createElement("div")));

function show(props: Parameters<typeof Markdown>[0]): void {
  act(() => render(<Markdown {...props} />, root));
}

describe("citations", () => {
  const text = "据报道[citation:1][citation:2]。";

  it("are numbered links to their sources; one beyond them stays text", () => {
    show({ text, isStreaming: false, sources: [SOURCE] });
    const links = [...root.querySelectorAll("a")];
    expect(links.map((link) => [link.textContent, link.href])).toEqual([["1", SOURCE.url]]);
    expect(links[0]?.getAttribute("aria-label")).toBe('Source 1: A "title"');
    expect(root.textContent?.trim()).toBe("据报道1[citation:2]。");
  });

  it("open the card by a plain click, and their source by one with a key", () => {
    const onCitation = vi.fn();
    show({ text, isStreaming: false, sources: [SOURCE], onCitation });
    const link = root.querySelector("a") as HTMLAnchorElement;
    const plain = new MouseEvent("click", { bubbles: true, cancelable: true });
    link.dispatchEvent(plain);
    expect(onCitation).toHaveBeenCalledExactlyOnceWith(1, link);
    expect(plain.defaultPrevented).toBe(true);
    link.dispatchEvent(new MouseEvent("click", { bubbles: true, ctrlKey: true }));
    expect(onCitation).toHaveBeenCalledOnce();
  });

  it("appear when the sources come after the text", () => {
    show({ text, isStreaming: true });
    expect(root.querySelector("a")).toBeNull();
    show({ text, isStreaming: true, sources: [SOURCE] });
    expect(root.querySelector("a")?.textContent).toBe("1");
  });

  it("of a file without a web address are buttons", () => {
    show({ text, isStreaming: false, sources: [{ ...SOURCE, url: "notes/a.md" }] });
    expect(root.querySelector("button.md-citation")?.textContent).toBe("1");
    expect(root.querySelector("a")).toBeNull();
  });
});

describe("the parts of an answer", () => {
  it("code has its language, a copy button and its text on the clipboard", async () => {
    const writeText = vi.fn().mockResolvedValue(undefined);
    vi.stubGlobal("navigator", { clipboard: { writeText } });
    show({ text: "```python\nx = 1 < 2\n```\n", isStreaming: false });
    const button = root.querySelector<HTMLButtonElement>(".md-copy");
    expect(root.querySelector(".md-code-language")?.textContent).toBe("python");
    button?.click();
    await vi.waitFor(() => expect(button?.textContent).toBe("Copied"));
    expect(writeText).toHaveBeenCalledExactlyOnceWith("x = 1 < 2\n");
    vi.unstubAllGlobals();
  });

  it.each([
    ["it costs $5 and $10", 0],
    ["from US$3 to $4 million, or 5$ for two", 0],
    ["$20/month, or $30 in total", 0],
    ["`$x$` and \\$x\\$", 0],
    ["设$x$为实数，$y=2$", 2],
    ["\\(a\\) and \\[b\\] and $$c$$ and $100$", 4],
    ["$$\n\\begin{aligned}\na &= b \\\\[2pt]\n\nc &= d\n\\end{aligned}\n$$", 1],
  ])("%j holds %i formulas", (text, count) => {
    show({ text, isStreaming: false });
    expect(root.querySelectorAll(".md-math, .md-math-pending")).toHaveLength(count);
  });

  it("an image is a link with its words", () => {
    show({ text: "![A *cat*](https://example.com/c.png) [![x](http://a.b/c)](http://d.e)", isStreaming: false });
    const links = [...root.querySelectorAll("a")].map((link) => [link.textContent, link.href]);
    expect(links).toEqual([["A cat", "https://example.com/c.png"], ["x", "http://d.e/"]]);
  });

  it("tasks are boxes, tables scroll in their own frame", () => {
    show({ text: "- [x] a\n- [ ] b\n\n| a |\n|:-:|\n| 1 |\n", isStreaming: false });
    const boxes = [...root.querySelectorAll<HTMLInputElement>("li.md-task > input[disabled]")];
    expect(boxes.map((box) => box.checked)).toEqual([true, false]);
    expect(root.querySelector(".md-table[tabindex='0'] > table td.md-center")?.textContent).toBe("1");
  });
});
