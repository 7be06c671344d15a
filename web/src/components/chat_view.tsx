import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { useApp } from "../app/app";
import { t } from "../i18n";
import { AssistantMessage } from "./assistant_message";
import { Icon } from "./icons";
import { useStickToEnd } from "./stick_to_end";
import { UserMessage } from "./user_message";

export function ChatView(): JSX.Element {
  const { conversation } = useApp();
  const words = t.value;
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const path = conversation.path.value;
  const occasion = `${conversation.chat.value?.id} ${conversation.numAsked.value}`;
  const end = useStickToEnd(scroller, content, occasion);
  return (
    <div class="scroller-frame">
      <div ref={scroller} class="scroller" tabIndex={-1}>
        <div ref={content} class="messages" role="log" aria-live="off" aria-label={words.conversation}>
          {path.map((id, index) => (
            <MessageOf key={id} id={id} isLast={index === path.length - 1} />
          ))}
        </div>
      </div>
      {!end.isAtEnd.value && (
        <button
          type="button"
          class="jump-button"
          aria-label={words.jumpToEnd}
          title={words.jumpToEnd}
          onClick={end.jump}
        >
          <Icon name="end" />
        </button>
      )}
    </div>
  );
}

function MessageOf({ id, isLast }: { id: string; isLast: boolean }): JSX.Element | null {
  const { conversation } = useApp();
  const message = conversation.message(id);
  if (!message) return null;
  // The role never changes, so this component does not follow the growing text.
  return message.peek().role === "user" ? (
    <UserMessage message={message} />
  ) : (
    <AssistantMessage message={message} isLast={isLast} />
  );
}
