import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { Source } from "../api/types";
import { t } from "../i18n";
import { IconButton } from "./icon_button";

export interface CitedSource {
  source: Source;
  /** The citation that was chosen; the card stands by it. */
  anchor: HTMLElement;
}

/** Only these go into a link: a source's address comes from a page of the web. */
export function webAddress(url: string): string | null {
  try {
    const { protocol, href } = new URL(url);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

export function SourceList({ sources }: { sources: readonly Source[] }): JSX.Element {
  const words = t.value;
  return (
    <details class="sources">
      <summary>{words.sources(sources.length)}</summary>
      <ol class="source-list">
        {sources.map((source) => (
          <li key={source.index} class="source">
            <SourceBody source={source} />
          </li>
        ))}
      </ol>
    </details>
  );
}

function SourceBody({ source }: { source: Source }): JSX.Element {
  const address = webAddress(source.url);
  const title = source.title || source.site || source.url;
  return (
    <>
      <p class="source-site">
        <span class="source-number">{source.index}</span>
        <span dir="auto">{[source.site, source.date].filter(Boolean).join(" · ")}</span>
      </p>
      <p class="source-title" dir="auto">
        {address ? (
          <a href={address} target="_blank" rel="noopener noreferrer nofollow">
            {title}
          </a>
        ) : (
          title
        )}
      </p>
      {source.snippet && (
        <p class="source-snippet" dir="auto">
          {source.snippet}
        </p>
      )}
    </>
  );
}

/** The card of one citation, by its side until Escape or a click elsewhere. */
export function SourceCard({
  cited,
  onClose,
}: {
  cited: CitedSource;
  onClose: () => void;
}): JSX.Element {
  const card = useRef<HTMLDivElement>(null);
  const { anchor, source } = cited;
  useLayoutEffect(() => {
    if (!card.current) return;
    place(card.current, anchor);
    card.current.focus({ preventScroll: true });
  }, [anchor]);
  useEffect(() => {
    const onPointer = ({ target }: PointerEvent) => {
      if (target instanceof Node && !card.current?.contains(target)) onClose();
    };
    addEventListener("pointerdown", onPointer);
    return () => removeEventListener("pointerdown", onPointer);
  }, [onClose]);
  return (
    <div
      ref={card}
      class="source-card"
      role="dialog"
      aria-label={t.value.source(source.index)}
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        onClose();
        anchor.focus();
      }}
    >
      <IconButton icon="close" label={t.value.close} onClick={onClose} />
      <SourceBody source={source} />
    </div>
  );
}

/** Beneath the citation within its message, moved left where it would leave the column. */
function place(card: HTMLElement, anchor: HTMLElement): void {
  const frame = card.offsetParent;
  if (!(frame instanceof HTMLElement)) return;
  const at = anchor.getBoundingClientRect();
  const around = frame.getBoundingClientRect();
  const left = Math.min(at.left - around.left, around.width - card.offsetWidth);
  card.style.left = `${Math.max(0, left)}px`;
  card.style.top = `${at.bottom - around.top + 6}px`;
}
