/** A modal dialog: the browser keeps the focus in it and closes it with Escape. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { t } from "../i18n";
import { IconButton } from "./icon_button";

interface DialogProps {
  title: string;
  onClose: () => void;
  class?: string;
  /** Left out for a dialog that has to be answered. */
  canClose?: boolean;
  children: ComponentChildren;
}

export function Dialog({ title, onClose, canClose = true, ...props }: DialogProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={`dialog ${props.class ?? ""}`}
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        if (canClose) onClose();
      }}
      // A second Escape closes it whatever was answered to the first.
      onClose={() => (canClose ? onClose() : dialog.current?.showModal())}
      // The backdrop belongs to the dialog; its content lies in a child.
      onClick={(event) => canClose && event.target === event.currentTarget && onClose()}
    >
      <div class="dialog-content">
        <div class="dialog-head">
          <h2 id={titleId}>{title}</h2>
          {canClose && <IconButton icon="close" label={t.value.close} onClick={onClose} />}
        </div>
        {props.children}
      </div>
    </dialog>
  );
}
