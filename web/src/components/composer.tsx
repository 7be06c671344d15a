import type { JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { useApp } from "../app/app";
import { formatBytes, t } from "../i18n";
import { AttachmentList } from "./attachment_list";
import { Icon } from "./icons";
import { IconButton } from "./icon_button";
import { growTextarea } from "./textarea";

export function Composer(): JSX.Element {
  const app = useApp();
  return (
    <form
      class="composer"
      aria-label={t.value.messageBox}
      onSubmit={(event) => {
        event.preventDefault();
        void app.send();
      }}
    >
      <AttachmentList />
      <MessageBox />
      <div class="composer-row">
        <ThinkToggle />
        <SearchToggle />
        <span class="spring" />
        <AttachButton />
        <SendButton />
      </div>
    </form>
  );
}

function MessageBox(): JSX.Element {
  const app = useApp();
  const words = t.value;
  const box = useRef<HTMLTextAreaElement>(null);
  const text = app.draft.value;
  const focusRequests = app.focusRequests.value;
  useLayoutEffect(() => growTextarea(box.current), [text]);
  useLayoutEffect(() => {
    // On a touch screen the keyboard would cover the page: it waits for a tap.
    if (matchMedia("(hover: hover)").matches) box.current?.focus();
  }, [focusRequests]);
  return (
    <textarea
      ref={box}
      id="message-box"
      rows={1}
      dir="auto"
      aria-label={words.messageBox}
      placeholder={words.placeholder}
      value={text}
      onInput={(event) => (app.draft.value = event.currentTarget.value)}
      onPaste={(event) => {
        const files = [...(event.clipboardData?.files ?? [])];
        if (files.length === 0) return;
        event.preventDefault();
        app.attachments.add(files);
      }}
      onKeyDown={(event) => {
        // Enter also ends a word being composed (Chinese, Japanese, Korean): not ours then.
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        void app.send();
      }}
    />
  );
}

function ThinkToggle(): JSX.Element {
  const { model, isThinking, preferences } = useApp();
  const words = t.value;
  const canThink = model.value?.is_reasoning ?? true;
  return (
    <Toggle
      icon="think"
      label={words.deepThink}
      hint={canThink ? words.deepThinkHint : words.deepThinkUnavailable}
      isOn={isThinking.value}
      isAvailable={canThink}
      onToggle={() => (preferences.isThinking.value = !preferences.isThinking.value)}
    />
  );
}

function SearchToggle(): JSX.Element {
  const { page, isSearching, preferences } = useApp();
  const words = t.value;
  const search = page.value?.search;
  const canSearch = search?.is_available ?? false;
  return (
    <Toggle
      icon="globe"
      label={words.search}
      hint={canSearch ? words.searchHint(search?.provider ?? "") : words.searchUnavailable}
      isOn={isSearching.value}
      isAvailable={canSearch}
      onToggle={() => (preferences.isSearching.value = !preferences.isSearching.value)}
    />
  );
}

interface ToggleProps {
  icon: "think" | "globe";
  label: string;
  hint: string;
  isOn: boolean;
  isAvailable: boolean;
  onToggle: () => void;
}

/** One that is not available can be reached all the same, to learn why. */
function Toggle(props: ToggleProps): JSX.Element {
  const { icon, label, hint, isOn, isAvailable, onToggle } = props;
  const { notices } = useApp();
  return (
    <button
      type="button"
      class="toggle"
      aria-pressed={isOn}
      aria-disabled={!isAvailable}
      aria-description={hint}
      title={hint}
      onClick={() => (isAvailable ? onToggle() : notices.info(hint))}
    >
      <Icon name={icon} size={16} />
      <span>{label}</span>
    </button>
  );
}

function AttachButton(): JSX.Element {
  const { attachments, page } = useApp();
  const words = t.value;
  const input = useRef<HTMLInputElement>(null);
  const limits = page.value?.files;
  const hint = limits ? fileLimits() : words.attach;
  function fileLimits(): string {
    const { max_files = 0, max_bytes = 0, types = [] } = limits ?? {};
    return words.fileLimits(max_files, formatBytes(max_bytes), types.join(" "));
  }
  return (
    <>
      <button
        type="button"
        class="icon-button"
        aria-label={words.attach}
        aria-description={hint}
        title={`${words.attach}. ${hint}`}
        onClick={() => input.current?.click()}
      >
        <Icon name="attach" />
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        data-testid="attach-files"
        accept={limits?.types.join(",")}
        onChange={(event) => {
          attachments.add([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
    </>
  );
}

function SendButton(): JSX.Element {
  const app = useApp();
  const words = t.value;
  if (app.conversation.isGenerating.value) {
    return (
      <IconButton
        class="send-button is-stop"
        icon="stop"
        label={words.stop}
        onClick={() => void app.stop()}
      />
    );
  }
  return (
    <button
      type="submit"
      class="icon-button send-button"
      aria-label={words.send}
      title={app.attachments.isUploading.value ? words.waitForFiles : words.send}
      disabled={!app.canSend.value}
    >
      <Icon name="send" />
    </button>
  );
}
