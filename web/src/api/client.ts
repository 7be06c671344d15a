/** The page's API: requests, and failures that say what happened. */
import type {
  Chat,
  Message,
  PageInfo,
  ReplyRequest,
  ReplyStart,
  UploadedFile,
} from "./types";

/** The server answered with an error. */
export class ApiFailure extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** No answer came at all. */
export class ConnectionLost extends Error {}

export type Fetch = (input: string, init?: RequestInit) => Promise<Response>;
export type ChatChange = Partial<Pick<Chat, "title" | "is_pinned" | "leaf_id">>;

export class Api {
  constructor(
    /** The key as it is now, or null. */
    readonly readKey: () => string | null,
    private readonly onKeyRefused: () => void,
    private readonly send: Fetch = (input, init) => fetch(input, init),
  ) {}

  page = (): Promise<PageInfo> => this.json("GET", "/api/page");

  chats(query: string, limit: number, before: string | null): Promise<{ chats: Chat[] }> {
    const parameters = new URLSearchParams({ limit: String(limit) });
    if (query) parameters.set("query", query);
    if (before) parameters.set("before", before);
    return this.json("GET", `/api/chats?${parameters}`);
  }

  newChat = (): Promise<Chat> => this.json("POST", "/api/chats", {});

  chat = (id: string): Promise<{ chat: Chat; messages: Message[] }> =>
    this.json("GET", `/api/chats/${encodeURIComponent(id)}`);

  changeChat = (id: string, change: ChatChange): Promise<Chat> =>
    this.json("PATCH", `/api/chats/${encodeURIComponent(id)}`, change);

  async deleteChat(id: string): Promise<void> {
    await this.request("DELETE", `/api/chats/${encodeURIComponent(id)}`);
  }

  async exportChat(id: string, format: "json" | "markdown"): Promise<Blob> {
    const path = `/api/chats/${encodeURIComponent(id)}/export?format=${format}`;
    return (await this.request("GET", path)).blob();
  }

  importChat = (exported: unknown): Promise<Chat> =>
    this.json("POST", "/api/chats/import", exported);

  reply = (chatId: string, request: ReplyRequest): Promise<ReplyStart> =>
    this.json("POST", `/api/chats/${encodeURIComponent(chatId)}/replies`, request);

  stop = (messageId: string): Promise<{ message: Message }> =>
    this.json("POST", `/api/messages/${encodeURIComponent(messageId)}/stop`);

  stream = (messageId: string, signal: AbortSignal): Promise<Response> =>
    this.request("GET", `/api/messages/${encodeURIComponent(messageId)}/stream`, { signal });

  async deleteFile(id: string): Promise<void> {
    await this.request("DELETE", `/api/files/${encodeURIComponent(id)}`);
  }

  /** Upload one file. XMLHttpRequest, because fetch tells no progress of what it sends. */
  upload(
    file: File,
    onProgress: (fraction: number) => void,
    signal: AbortSignal,
  ): Promise<UploadedFile> {
    const form = new FormData();
    form.append("file", file, file.name);
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", "/api/files");
      const key = this.readKey();
      if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
      request.upload.onprogress = (event) => {
        if (event.lengthComputable) onProgress(event.loaded / event.total);
      };
      request.onload = () => {
        if (request.status < 300) return resolve(JSON.parse(request.responseText) as UploadedFile);
        reject(this.failure(request.status, request.responseText));
      };
      request.onerror = () => reject(new ConnectionLost());
      request.onabort = () => reject(new DOMException("aborted", "AbortError"));
      signal.addEventListener("abort", () => request.abort());
      request.send(form);
    });
  }

  private async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const init: RequestInit = {};
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { "Content-Type": "application/json" };
    }
    return (await (await this.request(method, path, init)).json()) as T;
  }

  private async request(method: string, path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    const key = this.readKey();
    if (key) headers.set("Authorization", `Bearer ${key}`);
    // A small change that is shown outlives the page, which may be left at once.
    const keepalive = method === "PATCH" || method === "DELETE";
    let response: Response;
    try {
      response = await this.send(path, { ...init, method, headers, keepalive });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ConnectionLost();
    }
    if (!response.ok) throw this.failure(response.status, await response.text());
    return response;
  }

  private failure(status: number, body: string): ApiFailure {
    if (status === 401) this.onKeyRefused();
    return new ApiFailure(status, errorMessage(body));
  }
}

/** The message inside `{"error": {"message": ...}}`, or nothing for another kind of body. */
export function errorMessage(body: string): string {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value !== "object" || value === null || !("error" in value)) return "";
    const { error } = value;
    if (typeof error !== "object" || error === null || !("message" in error)) return "";
    return typeof error.message === "string" ? error.message : "";
  } catch {
    return "";
  }
}
