/** The page of the benchmark: `window.stream(kind, characters)` streams a thought through the real components. */
import { render } from "preact";
import { Markdown } from "../src/markdown";
import { Thought } from "../src/thought";
import { textOf, type Kind } from "./texts";
import "./page.css";

export interface Frames {
  /** Time between frames in milliseconds, while text arrived. */
  intervals: number[];
  numCharacters: number;
  numElements: number;
}

const root = document.getElementById("root") as HTMLElement;
const scroller = document.getElementById("scroller") as HTMLElement;

function show(text: string, isStreaming: boolean, isThought: boolean): void {
  const view = isThought ? (
    <Thought text={text} seconds={null} isStreaming={isStreaming} isAnswerStarted={false} />
  ) : (
    <Markdown text={text} isStreaming={isStreaming} />
  );
  render(view, root);
  scroller.scrollTop = scroller.scrollHeight;
}

/** One chunk a frame: `charactersPerSecond` shared out over the frames as they really come. */
async function stream(
  kind: Kind,
  numCharacters: number,
  charactersPerSecond: number,
  isThought: boolean,
): Promise<Frames> {
  const whole = textOf(kind, numCharacters);
  const intervals: number[] = [];
  let last = await new Promise<number>(requestAnimationFrame);
  const start = last;
  for (let shown = 0; shown < whole.length; ) {
    shown = Math.min(whole.length, Math.ceil(((performance.now() - start) / 1_000) * charactersPerSecond));
    show(whole.slice(0, shown), true, isThought);
    const now = await new Promise<number>(requestAnimationFrame);
    intervals.push(now - last);
    last = now;
  }
  show(whole, false, isThought);
  const end = await new Promise<number>(requestAnimationFrame);
  intervals.push(end - last);
  return { intervals, numCharacters: whole.length, numElements: root.querySelectorAll("*").length };
}

/** How long a finished text takes to be on the screen, as when a chat is opened. */
async function open(kind: Kind, numCharacters: number): Promise<number> {
  render(null, root);
  const start = performance.now();
  show(textOf(kind, numCharacters), false, true);
  await new Promise(requestAnimationFrame);
  return performance.now() - start;
}

export interface Bench {
  stream: typeof stream;
  open: typeof open;
}

Object.assign(window, { bench: { stream, open } satisfies Bench });
