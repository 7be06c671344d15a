import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useApp } from "../app/app";
import { t } from "../i18n";
import { Dialog } from "./dialog";

/** Without any key there is nothing behind the dialog, so that it stays until one is given. */
export function KeyDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const app = useApp();
  const words = t.value;
  const [text, setText] = useState("");
  const [isRemembered, setRemembered] = useState(app.key.isRemembered.peek());
  const isRefused = app.key.isRefused.value;
  const canClose = app.key.value.value !== null && !isRefused;
  return (
    <Dialog title={words.keyNeeded} canClose={canClose} onClose={onClose} class="is-small">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void app.useKey(text.trim(), isRemembered);
        }}
      >
        <p class="quiet">{words.keyNeededText}</p>
        {isRefused && (
          <p class="field-error" role="alert">
            {words.keyWrong}
          </p>
        )}
        <input
          class="text-input"
          type="password"
          autofocus
          autocomplete="off"
          aria-label={words.apiKey}
          placeholder={words.apiKey}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <label class="check-field">
          <input
            type="checkbox"
            checked={isRemembered}
            onChange={(event) => setRemembered(event.currentTarget.checked)}
          />
          {words.rememberKey}
        </label>
        <div class="dialog-actions">
          <button type="submit" class="button is-main" disabled={!text.trim()}>
            {words.keyContinue}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
