import type { JSX } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { t } from "../i18n";
import { copyCode } from "./copy_code";
import { Painter } from "./painter";
import type { MarkdownLabels, Source } from "./types";
import "./markdown.css";
import "./highlight.css";

interface Props {
  text: string;
  /** More text will come: the last block is drawn as unfinished. */
  isStreaming: boolean;
  sources?: readonly Source[];
  /** A citation was chosen; without this it opens its source like any link. */
  onCitation?: (index: number, anchor: HTMLElement) => void;
}

const NO_SOURCES: readonly Source[] = [];

function labelsOf(words: typeof t.value): MarkdownLabels {
  const { copyCode, copied, copyFailed, image, table, taskDone, taskOpen, source } = words;
  return { copyCode, copied, copyFailed, image, table, done: taskDone, open: taskOpen, source };
}

/** What a citation shows of its source: a new list with the same content draws nothing anew. */
function identityOf(sources: readonly Source[]): string {
  return sources.map(({ index, title, url }) => `${index} ${title} ${url}`).join("\n");
}

export function Markdown({ text, isStreaming, sources = NO_SOURCES, onCitation }: Props): JSX.Element {
  const root = useRef<HTMLDivElement>(null);
  const painter = useRef<Painter | null>(null);
  const words = t.value;
  const identity = identityOf(sources);
  const options = useMemo(() => ({ sources, labels: labelsOf(words) }), [identity, words]);

  useLayoutEffect(() => {
    if (painter.current === null && root.current !== null) {
      painter.current = new Painter(root.current, options);
    } else painter.current?.setOptions(options);
  }, [options]);
  useLayoutEffect(() => painter.current?.set(text, isStreaming), [text, isStreaming]);
  useLayoutEffect(() => () => painter.current?.dispose(), []);

  const onClick = (event: MouseEvent): void => {
    const target = event.target instanceof Element ? event.target : null;
    const button = target?.closest<HTMLElement>(".md-copy");
    if (button) void copyCode(button, options.labels);
    const citation = target?.closest<HTMLElement>(".md-citation");
    const isPlain = !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (!citation || !onCitation || !isPlain) return;
    event.preventDefault();
    onCitation(Number(citation.dataset.citation), citation);
  };
  return <div ref={root} class="md" dir="auto" onClick={onClick} />;
}
