/** A chat is a tree: an edit or a new try is another child of the same parent. */

export interface Node {
  id: string;
  parent_id: string | null;
}

/** The children of each message (of null: the first messages), oldest first. */
export type Children = ReadonlyMap<string | null, readonly string[]>;

/** `nodes` in the order they were made. */
export function childrenOf(nodes: Iterable<Node>): Children {
  const children = new Map<string | null, string[]>();
  for (const { id, parent_id } of nodes) {
    const siblings = children.get(parent_id);
    if (siblings) siblings.push(id);
    else children.set(parent_id, [id]);
  }
  return children;
}

/** The end of the newest branch below a message, or below the root. */
export function newestLeaf(children: Children, id: string | null): string | null {
  let leaf = id;
  for (;;) {
    const newest: string | undefined = children.get(leaf)?.at(-1);
    if (newest === undefined) return leaf;
    leaf = newest;
  }
}

/** From the first message to `leafId`; empty for null or an unknown id. */
export function pathTo(nodes: ReadonlyMap<string, Node>, leafId: string | null): string[] {
  const path: string[] = [];
  const seen = new Set<string>();
  for (let id = leafId; id !== null && !seen.has(id); ) {
    const node = nodes.get(id);
    if (!node) break;
    seen.add(id);
    path.push(id);
    id = node.parent_id;
  }
  return path.reverse();
}

/** A message among its versions, counted from 0. */
export function versionsOf(children: Children, node: Node): { ids: readonly string[]; index: number } {
  const ids = children.get(node.parent_id) ?? [node.id];
  return { ids, index: Math.max(0, ids.indexOf(node.id)) };
}
