/** The keyboard: what each shortcut is called, and what it does. */
import type { Dictionary } from "../i18n";
import type { App } from "./app";

interface Shortcut {
  keys: readonly string[];
  words: keyof Dictionary & `shortcut${string}`;
}

const MODIFIER = /Mac|iPhone|iPad/.test(globalThis.navigator?.userAgent ?? "") ? "⌘" : "Ctrl";

/** In the order of the dialog. Alt is left to the browser's and the system's own shortcuts. */
export const SHORTCUTS: readonly Shortcut[] = [
  { keys: ["Enter"], words: "shortcutSend" },
  { keys: ["Shift", "Enter"], words: "shortcutLine" },
  { keys: [MODIFIER, "Shift", "O"], words: "shortcutNewChat" },
  { keys: [MODIFIER, "K"], words: "shortcutSearch" },
  { keys: [MODIFIER, "B"], words: "shortcutSidebar" },
  { keys: ["/"], words: "shortcutFocus" },
  { keys: [MODIFIER, "Shift", "D"], words: "shortcutThink" },
  { keys: [MODIFIER, "Shift", "C"], words: "shortcutCopy" },
  { keys: [MODIFIER, ","], words: "shortcutSettings" },
  { keys: ["Esc"], words: "shortcutStop" },
  { keys: ["?"], words: "shortcutHelp" },
];

type Action = (app: App) => void;

const WITH_MODIFIER: Readonly<Record<string, Action>> = {
  "shift+o": (app) => app.newChat(),
  k: (app) => app.searchChats(),
  b: (app) => app.setSidebarOpen(!app.isSidebarShown.peek()),
  "shift+d": ({ preferences }) => (preferences.isThinking.value = !preferences.isThinking.peek()),
  "shift+c": (app) => app.copyLastReply(),
  ",": (app) => (app.dialog.value = { kind: "settings" }),
};

const ALONE: Readonly<Record<string, Action>> = {
  "/": (app) => app.focusMessage(),
  "?": (app) => (app.dialog.value = { kind: "shortcuts" }),
};

/** Handle a key for the whole page; a dialog has the keyboard to itself. */
export function onPageKey(app: App, event: KeyboardEvent): void {
  if (event.isComposing || event.defaultPrevented || app.dialog.peek()) return;
  const action = actionOf(app, event);
  if (!action) return;
  event.preventDefault();
  action(app);
}

function actionOf(app: App, event: KeyboardEvent): Action | undefined {
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && !event.altKey) {
    return WITH_MODIFIER[event.shiftKey ? `shift+${key}` : key];
  }
  if (event.key === "Escape") return escapeAction(app);
  const isTyping = event.target instanceof HTMLElement && isEditable(event.target);
  return isTyping || event.altKey ? undefined : ALONE[event.key];
}

function escapeAction(app: App): Action | undefined {
  if (app.isSidebarOverlay.peek()) return () => app.setSidebarOpen(false);
  if (app.conversation.isGenerating.peek()) return () => void app.stop();
  return undefined;
}

function isEditable(element: HTMLElement): boolean {
  return element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName);
}
