import { copyText } from "../state/clipboard";
import type { MarkdownLabels } from "./types";

const SHOWN_MS = 1_600;

/** Puts the code beside the button on the clipboard, and says on the button how that went. */
export async function copyCode(button: HTMLElement, labels: MarkdownLabels): Promise<void> {
  const code = button.closest(".md-code")?.querySelector("code")?.textContent ?? "";
  const outcome = (await copyText(code)) ? labels.copied : labels.copyFailed;
  button.setAttribute("aria-live", "polite");
  button.textContent = outcome;
  setTimeout(() => (button.textContent = labels.copyCode), SHOWN_MS);
}
