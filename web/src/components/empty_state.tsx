import type { JSX } from "preact";
import { useApp } from "../app/app";
import { t } from "../i18n";
import { Mark } from "./icons";

export function Greeting(): JSX.Element {
  return (
    <div class="greeting">
      <Mark size={44} />
      <h1>{t.value.greeting}</h1>
    </div>
  );
}

/** Example questions, put into the message box to be read and changed before they are sent. */
export function Examples(): JSX.Element {
  const app = useApp();
  return (
    <ul class="examples">
      {t.value.examples.map(({ label, text }) => (
        <li key={label}>
          <button
            type="button"
            onClick={() => {
              app.draft.value = text;
              app.focusMessage();
            }}
          >
            <strong>{label}</strong>
            <span>{text}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}
