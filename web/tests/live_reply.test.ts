import { effect, signal } from "@preact/signals";
import { expect, test } from "vitest";
import type { Message } from "../src/api/types";
import { LiveReply, numCharacters } from "../src/state/live_reply";
import { messageOf } from "./fake_server";

function live() {
  const message = signal<Message>(messageOf("m", null));
  const frames: (() => void)[] = [];
  const saved: boolean[] = [];
  let now = 0;
  const reply = new LiveReply(
    message,
    (_, isSaved) => saved.push(isSaved),
    (run) => frames.push(run),
    () => now,
  );
  const drawFrame = () => frames.splice(0).forEach((run) => run());
  return { message, reply, frames, saved, drawFrame, wait: (ms: number) => (now += ms) };
}

test("1,000 tokens within a frame change the message once", () => {
  const { message, reply, frames, drawFrame } = live();
  let numChanges = -1;
  effect(() => {
    void message.value;
    numChanges += 1;
  });
  for (let i = 0; i < 1000; i += 1) reply.take({ name: "content", text: "ab" });
  expect([frames.length, numChanges, message.value.content.length]).toEqual([1, 0, 0]);
  drawFrame();
  expect([numChanges, message.value.content.length]).toEqual([1, 2000]);
});

test("a snapshot replaces what was waiting, so that a reconnect repeats nothing", () => {
  const { message, reply, drawFrame } = live();
  reply.take({ name: "content", text: "lost?" });
  reply.take({ name: "snapshot", message: messageOf("m", null, { content: "lost? no" }) });
  reply.take({ name: "content", text: "!" });
  drawFrame();
  expect(message.value.content).toBe("lost? no!");
});

test("saved means that every character shown is stored, counted as the server counts", () => {
  const { reply, saved, drawFrame } = live();
  reply.take({ name: "reasoning", text: "🧠" });
  reply.take({ name: "content", text: "四五" });
  drawFrame();
  reply.take({ name: "saved", num_reasoning_characters: 1, num_content_characters: 1 });
  drawFrame();
  reply.take({ name: "saved", num_reasoning_characters: 1, num_content_characters: 2 });
  drawFrame();
  reply.take({ name: "content", text: "六" });
  drawFrame();
  reply.take({ name: "done", message: messageOf("m", null, { status: "done", content: "四五六" }) });
  expect(saved).toEqual([false, false, true, false, true]);
});

test("the end is told once, though a frame was waiting for more", () => {
  const { reply, saved, drawFrame } = live();
  reply.take({ name: "content", text: "End." });
  reply.take({ name: "done", message: messageOf("m", null, { status: "done", content: "End." }) });
  drawFrame();
  expect(saved).toEqual([true]);
});

test("the time of a thought is taken until the server tells it", () => {
  const { message, reply, drawFrame, wait } = live();
  reply.take({ name: "reasoning", text: "hm" });
  wait(2500);
  drawFrame();
  expect(message.value.thinking_seconds).toBe(null);
  reply.take({ name: "content", text: "So" });
  drawFrame();
  expect(message.value.thinking_seconds).toBe(2.5);
  reply.take({ name: "done", message: messageOf("m", null, { thinking_seconds: 2.4 }) });
  expect(message.value.thinking_seconds).toBe(2.4);
});

test("code points", () => {
  expect(["", "abc", "思考", "🧠🧠", "e\u0301"].map(numCharacters)).toEqual([0, 3, 2, 2, 2]);
});
