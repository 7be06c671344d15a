import type { JSX } from "preact";
import { useId, useState } from "preact/hooks";
import { t, type Dictionary } from "../i18n";
import { Markdown } from "../markdown";
import "./thought.css";

interface Props {
  text: string;
  /** How long the model thought, or has thought so far; null when nobody measured it. */
  seconds: number | null;
  isStreaming: boolean;
  isAnswerStarted: boolean;
}

function title({ seconds, isStreaming }: Props, words: Dictionary): string {
  if (isStreaming) return words.thinking;
  return seconds === null ? words.thought : words.thoughtFor(Math.max(1, Math.round(seconds)));
}

/** Open while the model thinks, closed once it answers, unless the reader has chosen otherwise. */
export function Thought(props: Props): JSX.Element {
  const [choice, setChoice] = useState<boolean | null>(null);
  const bodyId = useId();
  const words = t.value;
  const isOpen = choice ?? !props.isAnswerStarted;
  return (
    <section class={props.isStreaming ? "thought is-streaming" : "thought"}>
      <button
        type="button"
        class="thought-toggle"
        aria-expanded={isOpen}
        aria-controls={bodyId}
        onClick={() => setChoice(!isOpen)}
      >
        {title(props, words)}
      </button>
      <div id={bodyId} class="thought-body" hidden={!isOpen}>
        {/* Closed, a long thought costs nothing: it is drawn when it is opened. */}
        {isOpen && <Markdown text={props.text} isStreaming={props.isStreaming} />}
      </div>
    </section>
  );
}
