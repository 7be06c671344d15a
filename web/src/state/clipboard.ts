/** Put a text on the clipboard; whether the browser allowed it. */
export async function copyText(text: string): Promise<boolean> {
  // Over plain HTTP from another machine, browsers offer only the older way.
  if (!navigator.clipboard) return copySelected(text);
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch (error) {
    console.warn("the clipboard refused", error);
    return false;
  }
}

function copySelected(text: string): boolean {
  const before = document.activeElement;
  const box = document.createElement("textarea");
  box.value = text;
  box.className = "visually-hidden";
  document.body.append(box);
  box.select();
  const isCopied = document.execCommand("copy");
  box.remove();
  if (before instanceof HTMLElement) before.focus();
  return isCopied;
}
