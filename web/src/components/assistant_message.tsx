import { useSignal, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useCallback } from "preact/hooks";
import type { Message } from "../api/types";
import { useApp } from "../app/app";
import { formatNumber, t, type Dictionary } from "../i18n";
import { Markdown } from "../markdown";
import { Thought } from "../thought";
import { CopyButton } from "./copy_button";
import { IconButton } from "./icon_button";
import { Icon } from "./icons";
import { SourceCard, SourceList, type CitedSource } from "./sources";
import { Versions } from "./versions";

interface Props {
  message: Signal<Message>;
  isLast: boolean;
}

export function AssistantMessage({ message, isLast }: Props): JSX.Element {
  const shown = message.value;
  const cited = useSignal<CitedSource | null>(null);
  const onCitation = useCallback(
    (index: number, anchor: HTMLElement) => {
      const source = message.peek().sources.find((one) => one.index === index);
      cited.value = source ? { source, anchor } : null;
    },
    [message, cited],
  );
  const isGenerating = shown.status === "generating";
  const isAnswerStarted = shown.content !== "";
  return (
    <article class="message is-assistant" aria-label={shown.model ?? "R1"} aria-busy={isGenerating}>
      <SearchNote message={shown} />
      {shown.reasoning_content && (
        <Thought
          text={shown.reasoning_content}
          seconds={shown.thinking_seconds}
          isStreaming={isGenerating && !isAnswerStarted}
          isAnswerStarted={isAnswerStarted}
        />
      )}
      {shown.content && (
        <Markdown
          text={shown.content}
          isStreaming={isGenerating}
          sources={shown.sources}
          onCitation={onCitation}
        />
      )}
      {isGenerating && !isAnswerStarted && !shown.reasoning_content && <Waiting message={shown} />}
      {!isGenerating && <EndNote message={shown} />}
      {shown.sources.length > 0 && !isGenerating && <SourceList sources={shown.sources} />}
      {cited.value && <SourceCard cited={cited.value} onClose={() => (cited.value = null)} />}
      {!isGenerating && <Actions message={shown} isLast={isLast} />}
    </article>
  );
}

function SearchNote({ message }: { message: Message }): JSX.Element | null {
  if (!message.search_query) return null;
  const words = t.value;
  return (
    <p class="search-note">
      <Icon name="globe" size={15} />
      <span dir="auto">
        {words.searchedFor(message.search_query)}{" "}
        <span class="quiet">
          {message.sources.length > 0 ? words.sources(message.sources.length) : words.noSources}
        </span>
      </span>
    </p>
  );
}

function Waiting({ message }: { message: Message }): JSX.Element {
  const { isSearching } = useApp();
  const isLooking = isSearching.value && message.sources.length === 0 && !message.search_query;
  return (
    <p class="waiting">
      <span class="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {isLooking ? t.value.searching : t.value.waiting}
    </p>
  );
}

/** Why a reply ended other than by its own end, and what to do about it. */
function EndNote({ message }: { message: Message }): JSX.Element | null {
  const app = useApp();
  const words = t.value;
  const note = endNote(message, words);
  if (!note) return null;
  const isFailed = message.status === "failed";
  const hasText = message.content !== "" || message.reasoning_content !== "";
  const canContinue = hasText && (message.status !== "done" || message.finish_reason === "length");
  return (
    <div class={isFailed ? "end-note is-error" : "end-note"} role={isFailed ? "alert" : undefined}>
      {isFailed && <Icon name="alert" />}
      <span dir="auto">{note}</span>
      {canContinue && (
        <button type="button" class="button" onClick={() => void app.continueReply(message)}>
          <Icon name="play" size={14} />
          {words.continue}
        </button>
      )}
      {isFailed && !hasText && (
        <button type="button" class="button" onClick={() => void app.regenerate(message)}>
          <Icon name="retry" size={14} />
          {words.tryAgain}
        </button>
      )}
    </div>
  );
}

function endNote(message: Message, words: Dictionary): string | null {
  if (message.status === "failed") {
    return message.error ? words.failedBecause(message.error) : words.failed;
  }
  if (message.status === "stopped") return words.stopped;
  // A reply that is done tells here what it had to do without (its search), or that it was a loop.
  if (message.error) return message.error;
  if (message.finish_reason === "length") return words.lengthReached;
  return message.content === "" ? words.noAnswer : null;
}

function Actions({ message, isLast }: { message: Message; isLast: boolean }): JSX.Element {
  const app = useApp();
  const words = t.value;
  return (
    <div class={isLast ? "actions is-shown" : "actions"}>
      <Versions message={message} />
      {message.content && <CopyButton text={() => message.content} />}
      <IconButton
        icon="retry"
        label={words.regenerate}
        isDisabled={app.conversation.isGenerating.value}
        onClick={() => void app.regenerate(message)}
      />
      <Figures message={message} />
    </div>
  );
}

function Figures({ message }: { message: Message }): JSX.Element | null {
  const words = t.value;
  const { usage, seconds, tokens_per_second: speed } = message;
  if (!usage) return null;
  const answer = usage.completion_tokens - usage.reasoning_tokens;
  const figures = [
    words.tokens(formatNumber(usage.completion_tokens)),
    ...(speed ? [words.tokensPerSecond(formatNumber(speed, speed < 100 ? 1 : 0))] : []),
    ...(seconds ? [words.seconds(formatNumber(seconds, 1))] : []),
  ];
  const details = words.usageDetails(
    formatNumber(usage.prompt_tokens),
    formatNumber(usage.reasoning_tokens),
    formatNumber(answer),
  );
  return (
    <span class="figures" title={details}>
      {figures.join(" · ")}
    </span>
  );
}
