/** What the page's API sends, as it is on the wire. Every text in it is untrusted. */

export interface ModelInfo {
  id: string;
  is_reasoning: boolean;
  /** Null where the server behind does not say. */
  max_model_len: number | null;
}

/** Sampling of one reply; what is left out is the server's default. */
export interface SamplingSettings {
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  thinking_budget?: number;
}

export interface PageInfo {
  models: ModelInfo[];
  defaults: {
    temperature: number;
    top_p: number;
    max_tokens: number;
    thinking_budget: number | null;
  };
  files: { max_bytes: number; max_files: number; types: string[] };
  search: { is_available: boolean; provider: string | null };
  version: string;
  needs_key: boolean;
}

export interface Chat {
  id: string;
  title: string;
  is_pinned: boolean;
  created_at: number | string;
  updated_at: number | string;
  /** The last message of the branch that is shown. */
  leaf_id: string | null;
}

export interface Source {
  index: number;
  title: string;
  url: string;
  site: string;
  date: string | null;
  snippet: string;
}

export interface MessageFile {
  id: string;
  name: string;
  num_bytes: number;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  reasoning_tokens: number;
}

export interface Message {
  id: string;
  parent_id: string | null;
  role: "user" | "assistant";
  content: string;
  reasoning_content: string;
  thinking_seconds: number | null;
  files: MessageFile[];
  search_query: string | null;
  sources: Source[];
  model: string | null;
  status: "done" | "generating" | "stopped" | "failed";
  error: string | null;
  finish_reason: string | null;
  usage: Usage | null;
  seconds: number | null;
  tokens_per_second: number | null;
  created_at: number | string;
}

export interface UploadedFile {
  id: string;
  name: string;
  num_bytes: number;
  num_characters: number;
  kind: string;
}

export interface ReplyRequest {
  parent_id: string | null;
  content: string | null;
  file_ids: string[];
  model: string;
  thinking: boolean;
  search: boolean;
  settings: SamplingSettings;
  continue_id: string | null;
}

export interface ReplyStart {
  chat: Chat;
  user_message: Message | null;
  assistant_message: Message;
}

/** The events of a reply's stream, by name. */
export interface StreamEvents {
  snapshot: { message: Message };
  sources: { search_query: string | null; sources: Source[] };
  reasoning: { text: string };
  content: { text: string };
  saved: { num_reasoning_characters: number; num_content_characters: number };
  done: { message: Message };
}
