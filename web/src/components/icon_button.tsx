import type { ComponentChildren, JSX } from "preact";
import { Icon, type IconName } from "./icons";

export interface IconButtonProps {
  icon: IconName;
  /** The accessible name, shown as a tooltip too. */
  label: string;
  onClick: () => void;
  isDisabled?: boolean;
  class?: string;
  children?: ComponentChildren;
}

export function IconButton(props: IconButtonProps): JSX.Element {
  const { icon, label, onClick, isDisabled = false, children } = props;
  return (
    <button
      type="button"
      class={`icon-button ${props.class ?? ""}`}
      aria-label={label}
      title={label}
      disabled={isDisabled}
      onClick={onClick}
    >
      <Icon name={icon} />
      {children}
    </button>
  );
}
