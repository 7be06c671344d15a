import type { JSX } from "preact";
import type { Chat } from "../api/types";
import { useApp, type App } from "../app/app";
import { t, type Dictionary } from "../i18n";
import { Icon } from "./icons";
import { Menu, type MenuItem } from "./menu";

export function ChatItem({ chat, isOpen }: { chat: Chat; isOpen: boolean }): JSX.Element {
  const app = useApp();
  const words = t.value;
  const title = chat.title || words.untitled;
  return (
    <li class={isOpen ? "chat-item is-open" : "chat-item"}>
      <a
        href={`#/chat/${encodeURIComponent(chat.id)}`}
        title={title}
        {...(isOpen && { "aria-current": "page" })}
        onClick={() => app.closeNarrowSidebar()}
      >
        {chat.is_pinned && <Icon name="pin" size={14} />}
        <span dir="auto">{title}</span>
      </a>
      <Menu class="icon-button" label={words.chatMenu(title)} items={chatMenu(app, chat, words)}>
        <Icon name="more" />
      </Menu>
    </li>
  );
}

/** What can be done with a whole chat. */
export function chatMenu(app: App, chat: Chat, words: Dictionary): MenuItem[] {
  return [
    {
      label: words.rename,
      icon: "edit",
      onChoose: () => (app.dialog.value = { kind: "rename", chat }),
    },
    {
      label: chat.is_pinned ? words.unpin : words.pin,
      icon: "pin",
      onChoose: () => void app.changeChat(chat, { is_pinned: !chat.is_pinned }),
    },
    {
      label: words.exportMarkdown,
      icon: "download",
      onChoose: () => void app.exportChat(chat, "markdown"),
    },
    {
      label: words.exportJson,
      icon: "download",
      onChoose: () => void app.exportChat(chat, "json"),
    },
    {
      label: words.delete,
      icon: "trash",
      isDangerous: true,
      onChoose: () => (app.dialog.value = { kind: "delete", chat }),
    },
  ];
}
