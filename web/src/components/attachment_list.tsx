import type { JSX } from "preact";
import { useApp } from "../app/app";
import { formatBytes, formatNumber, t, type Dictionary } from "../i18n";
import type { Attachment } from "../state/attachments";
import { IconButton } from "./icon_button";
import { Icon } from "./icons";

export function AttachmentList(): JSX.Element | null {
  const { attachments } = useApp();
  const items = attachments.items.value;
  if (items.length === 0) return null;
  return (
    <ul class="file-cards" aria-label={t.value.attachedFiles}>
      {items.map((item) => (
        <AttachmentCard key={item.number} item={item} />
      ))}
    </ul>
  );
}

function AttachmentCard({ item }: { item: Attachment }): JSX.Element {
  const { attachments } = useApp();
  const words = t.value;
  const isUploading = item.id === null && item.error === null;
  return (
    <li class={item.error ? "file-card is-error" : "file-card"}>
      <Icon name={item.error ? "alert" : "file"} />
      <span class="file-name" dir="auto" title={item.name}>
        {item.name}
      </span>
      <span class="file-note" role="status" dir="auto" title={item.error ?? undefined}>
        {state(item, words)}
      </span>
      {isUploading && (
        <progress aria-label={item.name} value={item.progress < 1 ? item.progress : undefined} />
      )}
      <IconButton
        icon="close"
        label={words.removeFile(item.name)}
        onClick={() => attachments.remove(item.number)}
      />
    </li>
  );
}

function state(item: Attachment, words: Dictionary): string {
  if (item.error) return item.error;
  if (item.id === null) {
    return item.progress < 1 ? words.uploading(Math.floor(item.progress * 100)) : words.reading;
  }
  const size = formatBytes(item.num_bytes);
  if (item.num_characters === null) return size;
  return `${size} · ${words.characters(formatNumber(item.num_characters))}`;
}
