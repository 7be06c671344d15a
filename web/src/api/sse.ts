/** Server-sent events from bytes, after the WHATWG's rules (HTML standard, 9.2.6). */

export interface ServerEvent {
  name: string;
  data: string;
}

export class EventParser {
  // `stream: true` below keeps the bytes of a character that a chunk cuts in two.
  private readonly decoder = new TextDecoder();
  private rest = "";
  private name = "";
  private data: string[] = [];

  /** The events that these bytes complete. */
  push(bytes: Uint8Array): ServerEvent[] {
    this.rest += this.decoder.decode(bytes, { stream: true });
    const events: ServerEvent[] = [];
    for (;;) {
      const end = this.rest.search(/[\r\n]/);
      if (end < 0) return events;
      // A final \r may be the first half of \r\n.
      if (this.rest[end] === "\r" && end === this.rest.length - 1) return events;
      const width = this.rest.startsWith("\r\n", end) ? 2 : 1;
      const line = this.rest.slice(0, end);
      this.rest = this.rest.slice(end + width);
      const event = this.takeLine(line);
      if (event) events.push(event);
    }
  }

  private takeLine(line: string): ServerEvent | null {
    if (line === "") return this.takeEvent();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.name = value;
    if (field === "data") this.data.push(value);
    return null;
  }

  private takeEvent(): ServerEvent | null {
    const event = { name: this.name || "message", data: this.data.join("\n") };
    const isEmpty = this.data.length === 0;
    this.name = "";
    this.data = [];
    return isEmpty ? null : event;
  }
}
