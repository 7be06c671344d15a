/**
 * Turns the children of one element into those of another with the fewest changes: what is equal
 * stays the same node, so a selection, a scroll position or a pressed button survives a redraw.
 */

function isSameShell(old: Element, fresh: Element): boolean {
  if (old.nodeName !== fresh.nodeName || old.attributes.length !== fresh.attributes.length) return false;
  return [...fresh.attributes].every(({ name, value }) => old.getAttribute(name) === value);
}

function morphNode(old: ChildNode, fresh: ChildNode): void {
  if (old instanceof Text && fresh instanceof Text) {
    // Appending keeps a selection inside the text; assigning would drop it.
    if (fresh.data.startsWith(old.data)) {
      if (fresh.length > old.length) old.appendData(fresh.data.slice(old.length));
    } else old.data = fresh.data;
  } else if (old instanceof Element && fresh instanceof Element && isSameShell(old, fresh)) {
    morphChildren(old, fresh);
  } else old.replaceWith(fresh);
}

export function morphChildren(target: Node, fresh: Node): void {
  const olds = [...target.childNodes];
  const news = [...fresh.childNodes];
  news.forEach((node, index) => {
    const old = olds[index];
    if (old === undefined) target.appendChild(node);
    else morphNode(old, node);
  });
  for (const extra of olds.slice(news.length)) extra.remove();
}
