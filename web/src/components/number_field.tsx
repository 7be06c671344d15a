import type { JSX } from "preact";
import { useId } from "preact/hooks";

interface Range {
  min: number;
  max: number;
  step: number;
}

interface NumberFieldProps {
  label: string;
  hint: string;
  /** Null where the default is used. */
  value: number | null;
  /** The default, shown while the field is empty. */
  placeholder: string;
  range: Range;
  onChange: (value: number | null) => void;
}

export function NumberField(props: NumberFieldProps): JSX.Element {
  const { label, hint, value, placeholder, range, onChange } = props;
  const hintId = useId();
  return (
    <label class="field">
      <span class="field-label">{label}</span>
      <input
        type="number"
        inputMode="decimal"
        {...range}
        value={value ?? ""}
        placeholder={placeholder}
        aria-describedby={hintId}
        onChange={(event) => {
          const number = readNumber(event.currentTarget.value, range);
          onChange(number);
          event.currentTarget.value = number === null ? "" : String(number);
        }}
      />
      <span id={hintId} class="field-hint">
        {hint}
      </span>
    </label>
  );
}

/** The number within its range, whole where the step is; null for an empty or broken field. */
export function readNumber(text: string, { min, max, step }: Range): number | null {
  const number = Number(text);
  if (text.trim() === "" || !Number.isFinite(number)) return null;
  const inRange = Math.min(max, Math.max(min, number));
  return step === 1 ? Math.round(inRange) : inRange;
}
