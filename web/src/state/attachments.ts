/** Files that go with the next message: each is uploaded at once, with its progress. */
import { computed, signal } from "@preact/signals";
import type { Api } from "../api/client";
import type { MessageFile, PageInfo } from "../api/types";
import { formatBytes, t } from "../i18n";
import { plainWords, type Notices } from "./notices";

export interface Attachment {
  number: number;
  name: string;
  num_bytes: number;
  /** 0 to 1; 1 while the server reads the file. */
  progress: number;
  /** The server's id, once it has read the file. */
  id: string | null;
  num_characters: number | null;
  error: string | null;
}

export class Attachments {
  readonly items = signal<readonly Attachment[]>([]);
  readonly isUploading = computed(() =>
    this.items.value.some((item) => item.id === null && item.error === null),
  );
  private number = 0;
  private readonly uploads = new Map<number, AbortController>();

  constructor(
    private readonly api: Api,
    private readonly notices: Notices,
    private readonly readLimits: () => PageInfo["files"],
  ) {}

  fileIds = (): string[] => this.items.peek().flatMap(({ id }) => id ?? []);

  add(files: readonly File[]): void {
    const { max_files } = this.readLimits();
    const room = Math.max(0, max_files - this.items.peek().filter((item) => !item.error).length);
    if (files.length > room) this.notices.error(t.peek().tooManyFiles(max_files));
    for (const file of files.slice(0, room)) this.addOne(file);
  }

  remove(number: number): void {
    this.uploads.get(number)?.abort();
    const item = this.items.peek().find((other) => other.number === number);
    this.items.value = this.items.peek().filter((other) => other !== item);
    const id = item?.id;
    if (id) void this.notices.guard(() => this.api.deleteFile(id));
  }

  /** Forget the files: they belong to a sent message now. */
  clear(): void {
    for (const upload of this.uploads.values()) upload.abort();
    this.items.value = [];
  }

  /** Their message was refused: they come back before those that were added since. */
  restore(items: readonly Attachment[]): void {
    this.items.value = [...items, ...this.items.peek()];
  }

  private addOne(file: File): void {
    this.number += 1;
    const { number } = this;
    const error = fileProblem(file, this.readLimits());
    const item = { number, name: file.name, num_bytes: file.size, progress: 0, id: null };
    this.items.value = [...this.items.peek(), { ...item, num_characters: null, error }];
    if (!error) void this.upload(number, file);
  }

  private async upload(number: number, file: File): Promise<void> {
    const stopped = new AbortController();
    this.uploads.set(number, stopped);
    const onProgress = (progress: number) => this.change(number, { progress });
    try {
      const { id, num_characters } = await this.api.upload(file, onProgress, stopped.signal);
      this.change(number, { id, num_characters, progress: 1 });
    } catch (error) {
      if (stopped.signal.aborted) return;
      this.change(number, { error: plainWords(error) || t.peek().uploadFailed });
    } finally {
      this.uploads.delete(number);
    }
  }

  private change(number: number, change: Partial<Attachment>): void {
    this.items.value = this.items
      .peek()
      .map((item) => (item.number === number ? { ...item, ...change } : item));
  }
}

/** What is wrong with a file before it is sent, or null. The server checks again. */
export function fileProblem(
  file: Pick<File, "name" | "size">,
  limits: PageInfo["files"],
): string | null {
  const words = t.peek();
  const name = file.name.toLowerCase();
  const isKnown = limits.types.some((type) => name.endsWith(type.toLowerCase()));
  if (limits.types.length > 0 && !isKnown) return words.fileWrongType;
  if (file.size > limits.max_bytes) return words.fileTooBig(formatBytes(limits.max_bytes));
  if (file.size === 0) return words.fileEmpty;
  return null;
}

export function asMessageFiles(items: readonly Attachment[]): MessageFile[] {
  return items.flatMap(({ id, name, num_bytes }) => (id ? [{ id, name, num_bytes }] : []));
}
