/** What the renderer needs to know of a search result; the API's `Source` fits. */
export interface Source {
  index: number;
  title: string;
  url: string;
  site: string;
  date: string | null;
  snippet: string;
}

/** The words that end up inside rendered Markdown. */
export interface MarkdownLabels {
  copyCode: string;
  copied: string;
  copyFailed: string;
  image: string;
  table: string;
  done: string;
  open: string;
  source: (index: number) => string;
}

export const ENGLISH_LABELS: MarkdownLabels = {
  copyCode: "Copy code",
  copied: "Copied",
  copyFailed: "The browser did not allow copying.",
  image: "Image",
  table: "Table",
  done: "Done",
  open: "Open",
  source: (index) => `Source ${index}`,
};

/** A library that is fetched when a text first needs it. */
export type LazyLibrary = "katex" | "highlight";

/** What the rules and renderers share while one block is rendered (markdown-it's `env`). */
export interface RenderEnvironment {
  sources: readonly Source[];
  labels: MarkdownLabels;
  /** The block may still grow: an unclosed formula is shown as one in the making. */
  isOpen: boolean;
  /** Filled in by the renderers: libraries this block wants and has not got yet. */
  missing: Set<LazyLibrary>;
}
