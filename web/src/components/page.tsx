import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { useApp } from "../app/app";
import { onPageKey } from "../app/shortcuts";
import { formatBytes, t } from "../i18n";
import { ChatView } from "./chat_view";
import { Composer } from "./composer";
import { DeleteDialog, RenameDialog } from "./chat_dialogs";
import { Examples, Greeting } from "./empty_state";
import { useFileDrop } from "./file_drop";
import { Header } from "./header";
import { KeyDialog } from "./key_dialog";
import { LiveRegion, NoticesView } from "./notices_view";
import { SettingsDialog } from "./settings_dialog";
import { ShortcutsDialog } from "./shortcuts_dialog";
import { Sidebar } from "./sidebar";

export function Page(): JSX.Element {
  const app = useApp();
  const isDragging = useSignal(false);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => onPageKey(app, event);
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [app]);
  useFileDrop(isDragging, (files) => app.attachments.add(files));
  const isSidebarShown = app.isSidebarShown.value;
  useFocusBesideSidebar(isSidebarShown);
  return (
    <div class={isSidebarShown ? "page has-sidebar" : "page"}>
      <a class="skip-link" href="#message-box" onClick={focusMessage(app.focusMessage.bind(app))}>
        {t.value.skipToMessage}
      </a>
      {isSidebarShown && <Sidebar />}
      {isSidebarShown && <div class="shade" onClick={() => app.closeNarrowSidebar()} />}
      <Main />
      {isDragging.value && <DropNote />}
      <NoticesView />
      <LiveRegion />
      <OpenDialog />
    </div>
  );
}

/** The button that showed or hid the chats is gone with it: the focus goes to its counterpart. */
function useFocusBesideSidebar(isShown: boolean): void {
  const wasShown = useRef(isShown);
  useLayoutEffect(() => {
    if (wasShown.current === isShown) return;
    wasShown.current = isShown;
    if (document.activeElement !== document.body) return;
    const place = isShown ? ".sidebar-head .icon-button" : ".header .icon-button";
    document.querySelector<HTMLElement>(place)?.focus();
  }, [isShown]);
}

/** A link of this page would also change its address, which names the chat. */
function focusMessage(focus: () => void): (event: Event) => void {
  return (event) => {
    event.preventDefault();
    focus();
  };
}

function Main(): JSX.Element {
  const { conversation, isSidebarOverlay } = useApp();
  const words = t.value;
  const loading = conversation.loading.value;
  const isEmpty = conversation.path.value.length === 0 && loading !== "loading";
  if (loading === "missing") {
    return (
      <main class="main">
        <Header />
        <p class="missing" role="alert">
          {words.chatNotFound}
        </p>
      </main>
    );
  }
  return (
    <main class={isEmpty ? "main is-empty" : "main"} inert={isSidebarOverlay.value}>
      <Header />
      {isEmpty ? <Greeting /> : <ChatView />}
      <div class="composer-frame">
        <LostModel />
        <Composer />
        {isEmpty ? <Examples /> : null}
        <p class="disclaimer">{words.disclaimer}</p>
      </div>
    </main>
  );
}

/** The chat goes on with another model, and its reader knows. */
function LostModel(): JSX.Element | null {
  const { lostModel, model } = useApp();
  if (lostModel.value === null || model.value === null) return null;
  return (
    <p class="lost-model" role="status">
      {t.value.modelLost(lostModel.value, model.value.id)}
    </p>
  );
}

function DropNote(): JSX.Element {
  const files = useApp().page.value?.files;
  const words = t.value;
  return (
    <div class="drop-note">
      <p>
        <strong>{words.dropHere}</strong>
        {files && (
          <span>
            {words.fileLimits(files.max_files, formatBytes(files.max_bytes), files.types.join(" "))}
          </span>
        )}
      </p>
    </div>
  );
}

function OpenDialog(): JSX.Element | null {
  const app = useApp();
  const dialog = app.dialog.value;
  const onClose = () => (app.dialog.value = null);
  switch (dialog?.kind) {
    case "settings":
      return <SettingsDialog onClose={onClose} />;
    case "shortcuts":
      return <ShortcutsDialog onClose={onClose} />;
    case "key":
      return <KeyDialog onClose={onClose} />;
    case "delete":
      return <DeleteDialog chat={dialog.chat} onClose={onClose} />;
    case "rename":
      return <RenameDialog chat={dialog.chat} onClose={onClose} />;
    case undefined:
      return null;
  }
}
