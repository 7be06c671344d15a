import { expect, test } from "vitest";
import { ApiFailure, ConnectionLost, errorMessage } from "../src/api/client";
import { readNumber } from "../src/components/number_field";
import { webAddress } from "../src/components/sources";
import { fileProblem } from "../src/state/attachments";
import { plainWords } from "../src/state/notices";
import { chatOf } from "../src/state/route";
import { PAGE } from "./fake_server";

test.each([
  ["https://a.b/c", "https://a.b/c"],
  ["http://a.b", "http://a.b/"],
  ["javascript:alert(1)", null],
  ["JaVaScRiPt:alert(1)", null],
  [" java\nscript:alert(1)", null],
  ["data:text/html,x", null],
  ["file:///etc/passwd", null],
  ["/api/chats", null],
  ["", null],
])("%j leads to %j", (url, address) => {
  expect(webAddress(url)).toBe(address);
});

test.each([
  ["notes.TXT", 10, null],
  ["notes.exe", 10, "This type of file cannot be read."],
  ["pdf", 10, "This type of file cannot be read."],
  ["big.pdf", 1001, "Larger than 1 kB."],
  ["empty.pdf", 0, "The file is empty."],
])("%s of %i bytes: %j", (name, size, problem) => {
  expect(fileProblem({ name, size }, PAGE.files)).toBe(problem);
});

test.each([
  ["#/chat/abc", "abc"],
  ["#/chat/a%2Fb", "a/b"],
  ["#/chat/%", null],
  ["#/chat/", null],
  ["#/chat/a/b", null],
  ["", null],
])("%j names %j", (hash, id) => {
  expect(chatOf(hash)).toBe(id);
});

test.each([
  ['{"error": {"message": "no"}}', "no"],
  ['{"error": {"message": 3}}', ""],
  ['{"error": "no"}', ""],
  ['{"detail": "no"}', ""],
  ["null", ""],
  ["<html>", ""],
])("%s says %j", (body, message) => {
  expect(errorMessage(body)).toBe(message);
});

test("failures in plain words", () => {
  expect(plainWords(new ConnectionLost())).toBe("The server cannot be reached. Is it running?");
  expect(plainWords(new ApiFailure(400, "temperature: too high"))).toBe("temperature: too high");
  expect(plainWords(new ApiFailure(422, ""))).toBe("The server had an error. Its log has the details.");
  expect(plainWords(new ApiFailure(500, "trace"))).toBe("The server had an error. Its log has the details.");
  expect(plainWords(new ApiFailure(401, "key"))).toBe("");
  expect(() => plainWords(new RangeError("ours"))).toThrow("ours");
});

test.each([
  ["0.7", 0.7],
  ["9", 2],
  ["-1", 0],
  ["", null],
  ["x", null],
])("%j is read as %j", (text, number) => {
  expect(readNumber(text, { min: 0, max: 2, step: 0.05 })).toBe(number);
});
