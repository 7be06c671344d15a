import { expect, test, vi } from "vitest";
import { Announcer } from "../src/state/announcer";
import { spoken, wholeSentences } from "../src/state/sentences";

test.each([
  ["One. Two", "One."],
  ["One.", ""],
  ["Pi is 3.14 or", ""],
  ["Really?! Yes", "Really?!"],
  ['He said "go." Then', 'He said "go."'],
  ["一。二", "一。"],
  ["「はい。」そう", "「はい。」"],
  ["a line\nanother", "a line\n"],
  ["", ""],
])("%j: %j is whole", (text, whole) => {
  expect(text.slice(0, wholeSentences(text))).toBe(whole);
});

test("marks are not read aloud", () => {
  expect(spoken("## So\n- **two** `x` [see](https://x.y) [citation:3]")).toBe("So two x see");
  expect(spoken("| a | b |\n|:--|---:|\n| 1 | -2 |\n\n---\nEnd")).toBe("a b 1 -2 End");
});

test("sentences are said as they end, together at a calm pace, and the rest at the end", () => {
  vi.useFakeTimers();
  const announcer = new Announcer();
  const said: string[] = [];
  announcer.said.subscribe(({ text }) => text && said.push(text));
  announcer.begin(0);
  const reply = "One. Two. Three";
  for (let end = 1; end <= reply.length; end += 1) announcer.follow(reply.slice(0, end), false);
  expect(said).toEqual([]);
  vi.advanceTimersByTime(1500);
  expect(said).toEqual(["One. Two."]);
  announcer.follow(reply, true);
  vi.advanceTimersByTime(1500);
  expect(said).toEqual(["One. Two.", "Three"]);
  vi.useRealTimers();
});

test("what was there before a reload is not said again", () => {
  vi.useFakeTimers();
  const announcer = new Announcer();
  announcer.begin("Old. ".length);
  announcer.follow("Old. New. ", false);
  vi.advanceTimersByTime(1500);
  expect(announcer.said.value.text).toBe("New.");
  vi.useRealTimers();
});
