/** Draws a growing Markdown text into an element: finished blocks once, the open ones as they change. */
import { BlockSplitter } from "./blocks";
import { loadLibrary } from "./libraries";
import { morphChildren } from "./morph";
import { toHtml } from "./parser";
import { sanitize } from "./sanitize";
import { normalise } from "./text";
import { completed } from "./unfinished";
import type { LazyLibrary, MarkdownLabels, Source } from "./types";

export interface StreamOptions {
  sources: readonly Source[];
  labels: MarkdownLabels;
}

interface View {
  element: HTMLElement;
  source: string;
  isOpen: boolean;
  missing: Set<LazyLibrary>;
}

interface Shown {
  source: string;
  isContinuation: boolean;
}

export class MarkdownStream {
  #splitter = new BlockSplitter();
  #text = "";
  #isStreaming = false;
  /** One a block, in order; those before `#numFinished` are never touched again. */
  #views: View[] = [];
  #numFinished = 0;
  /** Milliseconds that drawing the unfinished rest last took: the work that each frame repeats. */
  tailCost = 0;

  constructor(
    readonly root: HTMLElement,
    private options: StreamOptions,
  ) {}

  /** Sources or words have changed: every block is drawn anew. */
  setOptions(options: StreamOptions): void {
    this.options = options;
    this.#reset();
    this.update(this.#text, this.#isStreaming);
  }

  update(rawText: string, isStreaming: boolean): void {
    const text = normalise(rawText);
    if (!text.startsWith(this.#text.slice(0, this.#splitter.tailStart))) this.#reset();
    this.#text = text;
    this.#isStreaming = isStreaming;
    for (const { start, end, isContinuation } of this.#splitter.advance(text)) {
      this.#show(this.#numFinished, { source: text.slice(start, end), isContinuation }, false);
      this.#numFinished += 1;
    }
    const start = performance.now();
    const rest = text.slice(this.#splitter.tailStart);
    const tail = this.#splitter.tail(isStreaming ? completed(rest) : rest);
    tail.forEach((block, index) => {
      const isOpen = isStreaming && index === tail.length - 1;
      this.#show(this.#numFinished + index, block, isOpen);
    });
    for (const view of this.#views.splice(this.#numFinished + tail.length)) view.element.remove();
    this.tailCost = performance.now() - start;
  }

  #reset(): void {
    this.#splitter = new BlockSplitter();
    this.#views = [];
    this.#numFinished = 0;
    this.root.replaceChildren();
  }

  #show(index: number, { source, isContinuation }: Shown, isOpen: boolean): void {
    const view = this.#views[index] ?? this.#addView();
    const className = isContinuation ? "md-block md-continuation" : "md-block";
    if (view.element.className !== className) view.element.className = className;
    if (view.source === source && view.isOpen === isOpen) return;
    view.source = source;
    view.isOpen = isOpen;
    this.#draw(view);
  }

  #addView(): View {
    const element = document.createElement("div");
    this.root.appendChild(element);
    const view: View = { element, source: "", isOpen: false, missing: new Set() };
    this.#views.push(view);
    return view;
  }

  #draw(view: View): void {
    view.missing = new Set();
    const { isOpen, missing } = view;
    const html = toHtml(view.source, { ...this.options, isOpen, missing });
    morphChildren(view.element, sanitize(html));
    for (const name of missing) {
      // Without its library a formula stays source and code stays plain: nothing else to do.
      loadLibrary(name).then(() => this.#redraw(name), console.warn);
    }
  }

  #redraw(name: LazyLibrary): void {
    for (const view of this.#views) if (view.missing.has(name)) this.#draw(view);
  }
}
