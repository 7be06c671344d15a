import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useApp } from "../app/app";
import { t } from "../i18n";
import { IconButton } from "./icon_button";

export function CopyButton({ text }: { text: () => string }): JSX.Element {
  const app = useApp();
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(() => setCopied(false), 1_600);
    return () => clearTimeout(timer);
  }, [isCopied]);
  return (
    <IconButton
      icon={isCopied ? "check" : "copy"}
      label={isCopied ? t.value.copied : t.value.copy}
      onClick={() => void app.copy(text()).then(setCopied)}
    />
  );
}
