import { expect, test } from "vitest";
import { EventParser, type ServerEvent } from "../src/api/sse";

const STREAM = 'event: content\r\ndata: {"text":"思考 🧠 é"}\r\n\r\n: keep-alive\r\n\r\nevent: done\ndata: a\ndata:b\n\n';
const EVENTS: ServerEvent[] = [
  { name: "content", data: '{"text":"思考 🧠 é"}' },
  { name: "done", data: "a\nb" },
];

function parse(...chunks: Uint8Array[]): ServerEvent[] {
  const parser = new EventParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
}

test("a cut at any byte, within a character too, changes nothing", () => {
  const bytes = new TextEncoder().encode(STREAM);
  expect(bytes.length).toBeGreaterThan(STREAM.length);
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    expect(parse(bytes.slice(0, cut), bytes.slice(cut))).toEqual(EVENTS);
  }
  expect(parse(...[...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(EVENTS);
});

test.each([
  ["data: x\r\rdata: y\n\n", [{ name: "message", data: "x" }, { name: "message", data: "y" }]],
  ["event: lonely\n\ndata: next\n\n", [{ name: "message", data: "next" }]],
  ["data\n\n", [{ name: "message", data: "" }]],
  ["data:  two spaces\n\n", [{ name: "message", data: " two spaces" }]],
  ["id: 7\nretry: 1\nwhat: ever\ndata: z\n\n", [{ name: "message", data: "z" }]],
  ["data: never ended\n", []],
])("%j", (text, events) => {
  expect(parse(new TextEncoder().encode(text))).toEqual(events);
});
