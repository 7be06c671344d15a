/** Decides when a growing text is drawn, so that drawing never takes most of a frame's time. */
import { MarkdownStream, type StreamOptions } from "./stream";

const SHORTEST_GAP_MS = 12;
/**
 * An open block that is dear to draw again (a huge table) is drawn less often: a fifth of the time at
 * most. Only repeated work counts: putting off new blocks would only make the next frame longer.
 */
const GAP_PER_COST = 4;

export class Painter {
  #stream: MarkdownStream;
  #text = "";
  #isStreaming = false;
  #frame = 0;
  #lastEnd = -Infinity;

  constructor(root: HTMLElement, options: StreamOptions) {
    this.#stream = new MarkdownStream(root, options);
  }

  setOptions(options: StreamOptions): void {
    this.#stream.setOptions(options);
  }

  /** Draws now when there is time, else at a coming frame; the end of a stream always at once. */
  set(text: string, isStreaming: boolean): void {
    this.#text = text;
    this.#isStreaming = isStreaming;
    if (!isStreaming || this.#isTime()) this.#draw();
    else this.#schedule();
  }

  dispose(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  #isTime(): boolean {
    const gap = Math.max(SHORTEST_GAP_MS, GAP_PER_COST * this.#stream.tailCost);
    return performance.now() - this.#lastEnd >= gap;
  }

  #schedule(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#isTime()) this.#draw();
      else this.#schedule();
    });
  }

  #draw(): void {
    this.dispose();
    this.#stream.update(this.#text, this.#isStreaming);
    this.#lastEnd = performance.now();
  }
}
