import type { Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Message, MessageFile } from "../api/types";
import { useApp } from "../app/app";
import { formatBytes, t } from "../i18n";
import { CopyButton } from "./copy_button";
import { IconButton } from "./icon_button";
import { Icon } from "./icons";
import { growTextarea } from "./textarea";
import { Versions } from "./versions";

export function UserMessage({ message }: { message: Signal<Message> }): JSX.Element {
  const app = useApp();
  const words = t.value;
  const [isEditing, setEditing] = useState(false);
  const { content, files } = message.value;
  return (
    <article class="message is-user" aria-label={words.you}>
      {files.length > 0 && <MessageFiles files={files} />}
      {isEditing ? (
        <EditBox message={message.value} onEnd={() => setEditing(false)} />
      ) : (
        content && (
          <div class="bubble" dir="auto">
            {content}
          </div>
        )
      )}
      {!isEditing && (
        <div class="actions">
          <Versions message={message.value} />
          <CopyButton text={() => message.peek().content} />
          <IconButton
            icon="edit"
            label={words.edit}
            isDisabled={app.conversation.isGenerating.value}
            onClick={() => setEditing(true)}
          />
        </div>
      )}
    </article>
  );
}

function MessageFiles({ files }: { files: readonly MessageFile[] }): JSX.Element {
  return (
    <ul class="file-cards" aria-label={t.value.attachedFiles}>
      {files.map(({ id, name, num_bytes }) => (
        <li key={id} class="file-card">
          <Icon name="file" />
          <span class="file-name" dir="auto" title={name}>
            {name}
          </span>
          <span class="file-note">{formatBytes(num_bytes)}</span>
        </li>
      ))}
    </ul>
  );
}

function EditBox({ message, onEnd }: { message: Message; onEnd: () => void }): JSX.Element {
  const app = useApp();
  const words = t.value;
  const [text, setText] = useState(message.content);
  const box = useRef<HTMLTextAreaElement>(null);
  // Before the reader can act: a caret moved later would split what a fast writer has begun.
  useLayoutEffect(() => {
    growTextarea(box.current);
    box.current?.focus();
    box.current?.setSelectionRange(text.length, text.length);
  }, []);
  const send = async () => {
    if (text.trim() && (await app.edit(message, text))) onEnd();
  };
  return (
    <form
      class="edit-box"
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <textarea
        ref={box}
        dir="auto"
        aria-label={words.editMessage}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          growTextarea(event.currentTarget);
        }}
        onKeyDown={(event) => {
          if (event.isComposing) return;
          if (event.key === "Escape") onEnd();
          else if (event.key === "Enter" && !event.shiftKey) void send();
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      <div class="edit-actions">
        <button type="button" class="button" onClick={onEnd}>
          {words.cancel}
        </button>
        <button
          type="submit"
          class="button is-main"
          disabled={!text.trim() || app.isSending.value || app.conversation.isGenerating.value}
        >
          {words.sendEdited}
        </button>
      </div>
    </form>
  );
}
