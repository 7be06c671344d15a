/**
 * The table of hostile model outputs: `text` (`repeat` times, between `before` and `after`), selectors
 * that must match nothing once it is rendered, and selectors of which each must match: what may stay.
 */
import table from "./hostile_outputs.json";

export interface HostileOutput {
  name: string;
  text: string;
  repeat?: number;
  before?: string;
  after?: string;
  must_not: string[];
  may: string[];
}

export const HOSTILE_OUTPUTS: readonly HostileOutput[] = table;

export function wholeText({ text, repeat = 1, before = "", after = "" }: HostileOutput): string {
  return before + text.repeat(repeat) + after;
}
