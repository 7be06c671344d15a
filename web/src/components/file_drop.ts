import type { Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

/** Files dropped anywhere on the page; `isDragging` while some hang over it. */
export function useFileDrop(isDragging: Signal<boolean>, onFiles: (files: File[]) => void): void {
  useEffect(() => {
    // Entering a child comes before leaving its parent, so that the depth is counted.
    let depth = 0;
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const follow = (change: number) => (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = Math.max(0, depth + change);
      isDragging.value = depth > 0;
    };
    const onDrop = (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      isDragging.value = false;
      onFiles([...(event.dataTransfer?.files ?? [])]);
    };
    const listeners = {
      dragenter: follow(1),
      dragleave: follow(-1),
      dragover: follow(0),
      drop: onDrop,
    };
    for (const [name, listener] of Object.entries(listeners)) {
      addEventListener(name as "drop", listener);
    }
    return () => {
      for (const [name, listener] of Object.entries(listeners)) {
        removeEventListener(name as "drop", listener);
      }
    };
  }, [isDragging, onFiles]);
}
