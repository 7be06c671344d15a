import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Chat } from "../api/types";
import { useApp } from "../app/app";
import { t } from "../i18n";
import { Dialog } from "./dialog";

interface Props {
  chat: Chat;
  onClose: () => void;
}

export function DeleteDialog({ chat, onClose }: Props): JSX.Element {
  const app = useApp();
  const words = t.value;
  return (
    <Dialog title={words.deleteTitle} onClose={onClose} class="is-small">
      <p dir="auto">{words.deleteText(chat.title || words.untitled)}</p>
      <div class="dialog-actions">
        <button type="button" class="button" onClick={onClose}>
          {words.cancel}
        </button>
        <button
          type="button"
          class="button is-dangerous"
          autofocus
          onClick={() => {
            onClose();
            void app.deleteChat(chat);
          }}
        >
          {words.delete}
        </button>
      </div>
    </Dialog>
  );
}

export function RenameDialog({ chat, onClose }: Props): JSX.Element {
  const app = useApp();
  const words = t.value;
  const [title, setTitle] = useState(chat.title);
  return (
    <Dialog title={words.rename} onClose={onClose} class="is-small">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          onClose();
          void app.changeChat(chat, { title: title.trim() });
        }}
      >
        <input
          class="text-input"
          dir="auto"
          autofocus
          maxLength={200}
          aria-label={words.chatTitle}
          value={title}
          onFocus={(event) => event.currentTarget.select()}
          onInput={(event) => setTitle(event.currentTarget.value)}
        />
        <div class="dialog-actions">
          <button type="button" class="button" onClick={onClose}>
            {words.cancel}
          </button>
          <button type="submit" class="button is-main" disabled={!title.trim()}>
            {words.save}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
