/** KaTeX and highlight.js: each its own chunk, fetched when a text first needs it. */
import type { HLJSApi } from "highlight.js";
import type katex from "katex";
import type { LazyLibrary } from "./types";

interface Libraries {
  katex?: typeof katex;
  highlight?: HLJSApi;
}

const loaded: Libraries = {};
const underWay = new Map<LazyLibrary, Promise<void>>();

const loaders: Readonly<Record<LazyLibrary, () => Promise<void>>> = {
  katex: async () => {
    loaded.katex = (await import("./katex_chunk")).default;
  },
  highlight: async () => {
    loaded.highlight = (await import("./highlight_chunk")).default;
  },
};

export function library<Name extends LazyLibrary>(name: Name): Libraries[Name] | undefined {
  return loaded[name];
}

/** Fetches a library once; after a failure (a lost connection) the next call tries again. */
export function loadLibrary(name: LazyLibrary): Promise<void> {
  const existing = underWay.get(name);
  if (existing !== undefined) return existing;
  const loading = loaders[name]().catch((error: unknown) => {
    underWay.delete(name);
    throw error;
  });
  underWay.set(name, loading);
  return loading;
}
