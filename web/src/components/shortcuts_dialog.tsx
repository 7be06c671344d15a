import type { JSX } from "preact";
import { SHORTCUTS } from "../app/shortcuts";
import { t } from "../i18n";
import { Dialog } from "./dialog";

export function ShortcutsDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const words = t.value;
  return (
    <Dialog title={words.shortcuts} onClose={onClose}>
      <dl class="shortcuts">
        {SHORTCUTS.map(({ keys, words: name }) => (
          <div key={name}>
            <dt>{words[name]}</dt>
            <dd>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
