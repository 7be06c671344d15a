import type { JSX } from "preact";
import type { Message } from "../api/types";
import { useApp } from "../app/app";
import { t } from "../i18n";
import { IconButton } from "./icon_button";

/** ‹ 2 / 3 ›: which of a message's versions is shown; nothing where there is one. */
export function Versions({ message }: { message: Message }): JSX.Element | null {
  const { conversation, notices } = useApp();
  const words = t.value;
  const { ids, index } = conversation.versions(message);
  if (ids.length < 2) return null;
  const show = (other: number) => {
    const id = ids[other];
    if (id !== undefined) void notices.guard(() => conversation.showVersion(id));
  };
  return (
    <div class="versions" role="group" aria-label={words.version(index + 1, ids.length)}>
      <IconButton
        icon="left"
        label={words.previousVersion}
        isDisabled={index === 0}
        onClick={() => show(index - 1)}
      />
      <span aria-hidden="true">
        {index + 1}/{ids.length}
      </span>
      <IconButton
        icon="right"
        label={words.nextVersion}
        isDisabled={index === ids.length - 1}
        onClick={() => show(index + 1)}
      />
    </div>
  );
}
