import type { JSX } from "preact";
import { useApp } from "../app/app";
import { t } from "../i18n";
import { chatMenu } from "./chat_item";
import { IconButton } from "./icon_button";
import { Icon } from "./icons";
import { Menu } from "./menu";

export function Header(): JSX.Element {
  const app = useApp();
  const words = t.value;
  const chat = app.conversation.chat.value;
  const isSidebarOpen = app.isSidebarShown.value;
  return (
    <header class="header">
      {!isSidebarOpen && (
        <>
          <IconButton
            icon="sidebar"
            label={words.openSidebar}
            onClick={() => app.setSidebarOpen(true)}
          />
          <IconButton icon="plus" label={words.newChat} onClick={() => app.newChat()} />
        </>
      )}
      <ModelChoice />
      {chat ? (
        <h1 class="chat-title" dir="auto">
          {chat.title || words.untitled}
        </h1>
      ) : (
        <span class="spring" />
      )}
      {chat && <SavedMark />}
      {chat && (
        <Menu
          class="icon-button"
          label={words.chatMenu(chat.title || words.untitled)}
          items={chatMenu(app, chat, words)}
        >
          <Icon name="more" />
        </Menu>
      )}
    </header>
  );
}

/** One model is only named; several are a menu. */
function ModelChoice(): JSX.Element | null {
  const app = useApp();
  const models = app.page.value?.models ?? [];
  const chosen = app.model.value;
  if (!chosen) return null;
  if (models.length === 1) {
    return (
      <span class="model-name" title={chosen.id}>
        {chosen.id}
      </span>
    );
  }
  const items = models.map(({ id }) => ({
    label: id,
    isChosen: id === chosen.id,
    onChoose: () => app.chooseModel(id),
  }));
  return (
    <Menu class="model-button" label={`${t.value.model}: ${chosen.id}`} items={items}>
      <>
        <span class="model-name">{chosen.id}</span>
        <Icon name="down" size={16} />
      </>
    </Menu>
  );
}

function SavedMark(): JSX.Element {
  const { conversation } = useApp();
  const isSaved = conversation.isSaved.value;
  const text = isSaved ? t.value.saved : t.value.saving;
  return (
    <span class={isSaved ? "saved-mark" : "saved-mark is-saving"} title={text}>
      <Icon name={isSaved ? "check" : "upload"} size={15} />
      <span>{text}</span>
    </span>
  );
}
