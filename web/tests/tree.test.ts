import { expect, test } from "vitest";
import { childrenOf, newestLeaf, pathTo, versionsOf, type Node } from "../src/state/tree";

/** u1 has two replies; a1 goes on to u2, which was edited as u3. u4 is another first message. */
const NODES: Node[] = [
  { id: "u1", parent_id: null },
  { id: "a1", parent_id: "u1" },
  { id: "u2", parent_id: "a1" },
  { id: "a2", parent_id: "u2" },
  { id: "u3", parent_id: "a1" },
  { id: "a3", parent_id: "u3" },
  { id: "b1", parent_id: "u1" },
  { id: "u4", parent_id: null },
];
const BY_ID = new Map(NODES.map((node) => [node.id, node]));
const CHILDREN = childrenOf(NODES);

test("the path runs from the first message to the leaf", () => {
  expect(pathTo(BY_ID, "a3")).toEqual(["u1", "a1", "u3", "a3"]);
  expect(pathTo(BY_ID, "b1")).toEqual(["u1", "b1"]);
  expect(pathTo(BY_ID, null)).toEqual([]);
  expect(pathTo(BY_ID, "gone")).toEqual([]);
});

test("a circle ends", () => {
  const circle = new Map([
    ["a", { id: "a", parent_id: "b" }],
    ["b", { id: "b", parent_id: "a" }],
  ]);
  expect(pathTo(circle, "a")).toEqual(["b", "a"]);
});

test("a branch is shown at its newest end", () => {
  expect(newestLeaf(CHILDREN, "a1")).toBe("a3");
  expect(newestLeaf(CHILDREN, "u2")).toBe("a2");
  expect(newestLeaf(CHILDREN, null)).toBe("u4");
  expect(newestLeaf(childrenOf([]), null)).toBe(null);
});

test("versions are the children of one parent, in the order they were made", () => {
  expect(versionsOf(CHILDREN, BY_ID.get("u3")!)).toEqual({ ids: ["u2", "u3"], index: 1 });
  expect(versionsOf(CHILDREN, BY_ID.get("b1")!)).toEqual({ ids: ["a1", "b1"], index: 1 });
  expect(versionsOf(CHILDREN, BY_ID.get("u1")!)).toEqual({ ids: ["u1", "u4"], index: 0 });
  expect(versionsOf(CHILDREN, BY_ID.get("a2")!)).toEqual({ ids: ["a2"], index: 0 });
});
