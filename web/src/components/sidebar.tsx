import type { JSX } from "preact";
import { useId, useRef } from "preact/hooks";
import { useApp } from "../app/app";
import { language, t, type Dictionary } from "../i18n";
import { groupByDay, type Group } from "../state/chat_list";
import { ChatItem } from "./chat_item";
import { IconButton } from "./icon_button";
import { Icon, Mark } from "./icons";

export function Sidebar(): JSX.Element {
  const app = useApp();
  const words = t.value;
  return (
    <nav class="sidebar" aria-label={words.chats}>
      <div class="sidebar-head">
        <Mark />
        <span class="brand">R1</span>
        <IconButton
          icon="sidebar"
          label={words.closeSidebar}
          onClick={() => app.setSidebarOpen(false)}
        />
      </div>
      <button type="button" class="new-chat" onClick={() => app.newChat()}>
        <Icon name="plus" />
        {words.newChat}
      </button>
      <SearchBox />
      <ChatGroups />
      <SidebarFoot />
    </nav>
  );
}

function SearchBox(): JSX.Element {
  const { chatList } = useApp();
  const words = t.value;
  return (
    <div class="search-box">
      <Icon name="search" size={16} />
      <input
        id="chat-search"
        type="search"
        autocomplete="off"
        aria-label={words.searchChats}
        placeholder={words.searchChats}
        value={chatList.query.value}
        onInput={(event) => chatList.search(event.currentTarget.value)}
      />
    </div>
  );
}

function ChatGroups(): JSX.Element {
  const { chatList, route } = useApp();
  const words = t.value;
  const hasQuery = chatList.query.value !== "";
  if (chatList.isEmpty.value) {
    return <p class="sidebar-note">{hasQuery ? words.noMatches : words.noChats}</p>;
  }
  return (
    <div class="chat-groups">
      {groupByDay(chatList.chats.value, new Date()).map((group) => (
        <ChatGroup key={group.name} group={group} openId={route.chatId.value} />
      ))}
      {chatList.hasMore.value && (
        <button type="button" class="text-button" onClick={() => void chatList.load(true)}>
          {words.moreChats}
        </button>
      )}
    </div>
  );
}

function ChatGroup({ group, openId }: { group: Group; openId: string | null }): JSX.Element {
  const titleId = useId();
  return (
    <section aria-labelledby={titleId}>
      <h2 id={titleId} class="group-title">
        {groupTitle(group.name, t.value)}
      </h2>
      <ul class="chat-items">
        {group.chats.map((chat) => (
          <ChatItem key={chat.id} chat={chat} isOpen={chat.id === openId} />
        ))}
      </ul>
    </section>
  );
}

function groupTitle(name: Group["name"], words: Dictionary): string {
  if (name in words) return String(words[name as keyof Dictionary]);
  const [year, month] = name.split("-").map(Number);
  return new Intl.DateTimeFormat(language.value, { year: "numeric", month: "long" }).format(
    new Date(year ?? 0, (month ?? 1) - 1),
  );
}

function SidebarFoot(): JSX.Element {
  const app = useApp();
  const words = t.value;
  const file = useRef<HTMLInputElement>(null);
  return (
    <div class="sidebar-foot">
      <button
        type="button"
        class="foot-button"
        onClick={() => (app.dialog.value = { kind: "settings" })}
      >
        <Icon name="settings" />
        {words.settings}
      </button>
      <IconButton
        icon="keyboard"
        label={words.shortcuts}
        onClick={() => (app.dialog.value = { kind: "shortcuts" })}
      />
      <IconButton
        icon="upload"
        label={words.importChat}
        onClick={() => file.current?.click()}
      />
      <input
        ref={file}
        type="file"
        accept=".json,application/json"
        hidden
        data-testid="import-file"
        onChange={(event) => {
          const [chosen] = event.currentTarget.files ?? [];
          if (chosen) void app.importChat(chosen);
          event.currentTarget.value = "";
        }}
      />
    </div>
  );
}
