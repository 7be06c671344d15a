import { render } from "preact";
import { act } from "preact/test-utils";
import { beforeEach, describe, expect, it } from "vitest";
import { Thought } from "./Thought";

let root: HTMLElement;
beforeEach(() => (root = document.createElement("div")));

type Props = Parameters<typeof Thought>[0];
const THINKING: Props = { text: "So **this**", seconds: null, isStreaming: true, isAnswerStarted: false };
const ANSWERING: Props = { ...THINKING, seconds: 12.4, isStreaming: false, isAnswerStarted: true };

function show(props: Props): HTMLButtonElement {
  act(() => render(<Thought {...props} />, root));
  return root.querySelector("button") as HTMLButtonElement;
}

describe("a thought", () => {
  it("is open while the model thinks and closes when the answer begins", () => {
    expect(show(THINKING).getAttribute("aria-expanded")).toBe("true");
    expect(root.querySelector("strong")?.textContent).toBe("this");
    const button = show(ANSWERING);
    expect(button.getAttribute("aria-expanded")).toBe("false");
    expect(button.textContent).toBe("Thought for 12 s");
    expect(root.querySelector(".md")).toBeNull();
  });

  it("stays as the reader has left it", () => {
    act(() => show(THINKING).click());
    expect(show(THINKING).getAttribute("aria-expanded")).toBe("false");
    act(() => show(THINKING).click());
    expect(show(ANSWERING).getAttribute("aria-expanded")).toBe("true");
  });

  it("was stopped before an answer: it stays open", () => {
    const button = show({ ...THINKING, isStreaming: false });
    expect([button.getAttribute("aria-expanded"), button.textContent]).toEqual(["true", "Thought"]);
  });
});
