/** A scroller that stays at its end while its content grows, until the reader scrolls up. */
import { useSignal, type Signal } from "@preact/signals";
import type { RefObject } from "preact";
import { useCallback, useEffect, useLayoutEffect } from "preact/hooks";

const NEAR_PIXELS = 64;

export interface End {
  isAtEnd: Signal<boolean>;
  jump: () => void;
}

/** `occasion`: a new value (another chat, another question) goes to the end again. */
export function useStickToEnd(
  scroller: RefObject<HTMLElement | null>,
  content: RefObject<HTMLElement | null>,
  occasion: string,
): End {
  const isAtEnd = useSignal(true);
  const jump = useCallback(() => {
    isAtEnd.value = true;
    const element = scroller.current;
    if (element) element.scrollTop = element.scrollHeight;
  }, [scroller, isAtEnd]);

  useLayoutEffect(jump, [occasion, jump]);

  useEffect(() => {
    const element = scroller.current;
    if (!element || !content.current) return;
    let lastTop = element.scrollTop;
    const onScroll = () => {
      const top = element.scrollTop;
      const distance = element.scrollHeight - element.clientHeight - top;
      // Only a move upwards is the reader's wish: growth below us makes a distance too.
      if (distance < 8 || (top > lastTop && distance < NEAR_PIXELS)) isAtEnd.value = true;
      else if (top < lastTop - 1) isAtEnd.value = false;
      lastTop = top;
    };
    const observer = new ResizeObserver(() => {
      if (isAtEnd.peek()) element.scrollTop = element.scrollHeight;
    });
    observer.observe(content.current);
    observer.observe(element);
    element.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", onScroll);
    };
  }, [scroller, content, isAtEnd]);

  return { isAtEnd, jump };
}
