/** As high as its text; the style sheet sets the most. */
export function growTextarea(box: HTMLTextAreaElement | null): void {
  if (!box) return;
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}
