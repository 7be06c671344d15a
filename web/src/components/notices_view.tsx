import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useApp } from "../app/app";
import { t } from "../i18n";
import { IconButton } from "./icon_button";
import { Icon } from "./icons";

export function NoticesView(): JSX.Element {
  const { notices } = useApp();
  return (
    <div class="notices">
      <ConnectionNotice />
      {notices.shown.value.map(({ number, kind, text }) => (
        <div
          key={number}
          class={`notice is-${kind}`}
          role={kind === "error" ? "alert" : "status"}
        >
          <Icon name={kind === "error" ? "alert" : "check"} />
          <span dir="auto">{text}</span>
          <IconButton
            icon="close"
            label={t.value.dismiss}
            onClick={() => notices.dismiss(number)}
          />
        </div>
      ))}
    </div>
  );
}

function ConnectionNotice(): JSX.Element | null {
  const { connection, page } = useApp();
  const words = t.value;
  const state = connection.state.value;
  const seconds = useSecondsUntil(state.kind === "waiting" ? state.retryAt : null);
  if (state.kind === "fine") return null;
  return (
    <div class="notice is-connection" role="alert">
      <Icon name="alert" />
      <span>{page.value ? words.connectionLost : words.serverAway}</span>
      {/* The countdown would be read out each second. */}
      <span class="quiet" aria-hidden="true">
        {state.kind === "waiting" ? words.nextTry(seconds) : words.connecting}
      </span>
      <button type="button" class="button" onClick={connection.retryNow}>
        {words.tryNow}
      </button>
    </div>
  );
}

function useSecondsUntil(time: number | null): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (time === null) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [time]);
  return time === null ? 0 : Math.max(0, Math.ceil((time - now) / 1000));
}

/** What a screen reader hears of a reply. New text in a new element is read, once. */
export function LiveRegion(): JSX.Element {
  const { number, text } = useApp().announcer.said.value;
  return (
    <div class="visually-hidden" role="status" aria-live="polite" data-testid="announcements">
      <p key={number}>{text}</p>
    </div>
  );
}
