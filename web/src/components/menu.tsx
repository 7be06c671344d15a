/** A button that opens a menu; arrow keys move in it, Escape and a click elsewhere close it. */
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./icons";

export interface MenuItem {
  label: string;
  icon?: IconName;
  isDangerous?: boolean;
  /** One of several choices, and whether it is the one. */
  isChosen?: boolean;
  onChoose: () => void;
}

interface MenuProps {
  label: string;
  items: readonly MenuItem[];
  class?: string;
  children: JSX.Element;
}

export function Menu({ label, items, children, ...props }: MenuProps): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const close = (hasFocus: boolean) => {
    setOpen(false);
    if (hasFocus) button.current?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class={props.class}
        aria-label={label}
        title={label}
        aria-haspopup="menu"
        aria-expanded={isOpen}
        onClick={() => setOpen(!isOpen)}
      >
        {children}
      </button>
      {isOpen && <MenuList label={label} items={items} anchor={button.current} close={close} />}
    </>
  );
}

interface MenuListProps {
  label: string;
  items: readonly MenuItem[];
  anchor: HTMLElement | null;
  close: (hasFocus: boolean) => void;
}

function MenuList({ label, items, anchor, close }: MenuListProps): JSX.Element {
  const list = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (list.current && anchor) place(list.current, anchor);
    focusItem(list.current, 0);
  }, [anchor]);
  useEffect(() => {
    const onPointer = (event: PointerEvent) => {
      const { target } = event;
      if (!(target instanceof Node)) return;
      if (!list.current?.contains(target) && !anchor?.contains(target)) close(false);
    };
    const onResize = () => close(false);
    addEventListener("pointerdown", onPointer);
    addEventListener("resize", onResize);
    return () => {
      removeEventListener("pointerdown", onPointer);
      removeEventListener("resize", onResize);
    };
  }, [anchor, close]);
  return (
    <div
      ref={list}
      class="menu"
      role="menu"
      aria-label={label}
      onKeyDown={(event) => onMenuKey(event, list.current, close)}
    >
      {items.map((item) => (
        <MenuButton key={item.label} item={item} close={close} />
      ))}
    </div>
  );
}

function MenuButton({ item, close }: { item: MenuItem; close: (hasFocus: boolean) => void }) {
  const isChoice = item.isChosen !== undefined;
  return (
    <button
      type="button"
      role={isChoice ? "menuitemradio" : "menuitem"}
      {...(isChoice && { "aria-checked": item.isChosen })}
      tabIndex={-1}
      class={item.isDangerous ? "menu-item is-dangerous" : "menu-item"}
      onClick={() => {
        close(true);
        item.onChoose();
      }}
    >
      {item.icon && <Icon name={item.icon} size={16} />}
      <span class="menu-label">{item.label}</span>
      {item.isChosen && <Icon name="check" size={16} />}
    </button>
  );
}

function focusItem(list: HTMLElement | null, index: number): void {
  const items = list?.querySelectorAll<HTMLElement>(".menu-item") ?? [];
  items[(index + items.length) % items.length]?.focus();
}

function onMenuKey(
  event: KeyboardEvent,
  list: HTMLElement | null,
  close: (hasFocus: boolean) => void,
): void {
  const items = [...(list?.querySelectorAll<HTMLElement>(".menu-item") ?? [])];
  const index = items.findIndex((item) => item === document.activeElement);
  const moves: Record<string, number> = {
    ArrowDown: index + 1,
    ArrowUp: index - 1,
    Home: 0,
    End: -1,
  };
  const target = moves[event.key];
  if (target !== undefined) focusItem(list, target);
  else if (event.key === "Escape") close(true);
  else if (event.key === "Tab") return close(false);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** Under the button, or above it where there is no room; never outside of the window. */
function place(list: HTMLElement, anchor: HTMLElement): void {
  const gap = 6;
  const at = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = list;
  const hasRoomBelow = at.bottom + gap + height < innerHeight;
  const top = hasRoomBelow ? at.bottom + gap : at.top - gap - height;
  const left = Math.min(at.left, innerWidth - width - gap);
  list.style.top = `${Math.max(gap, top)}px`;
  list.style.left = `${Math.max(gap, left)}px`;
}
