import type { Signal } from "@preact/signals";
import type { JSX } from "preact";
import type { PageInfo, SamplingSettings } from "../api/types";
import { useApp } from "../app/app";
import { formatNumber, LANGUAGE_NAMES, t } from "../i18n";
import { Dialog } from "./dialog";
import { NumberField } from "./number_field";

/** A drawer at the side; the chat stays in view beside it. */
export function SettingsDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const app = useApp();
  const words = t.value;
  const page = app.page.value;
  return (
    <Dialog title={words.settings} onClose={onClose} class="is-drawer">
      <section class="settings-group">
        <h3>{words.appearance}</h3>
        <Choice
          label={words.theme}
          value={app.preferences.theme}
          choices={{
            system: words.themeSystem,
            light: words.themeLight,
            dark: words.themeDark,
          }}
        />
        <Choice
          label={words.language}
          value={app.preferences.language}
          choices={{ automatic: words.automatic, ...LANGUAGE_NAMES }}
        />
      </section>
      {page && <SamplingGroup page={page} />}
      {page?.needs_key && (
        <section class="settings-group">
          <h3>{words.apiKey}</h3>
          <p class="quiet">{words.apiKeyHint}</p>
          <button
            type="button"
            class="button"
            onClick={() => (app.dialog.value = { kind: "key" })}
          >
            {words.changeKey}
          </button>
        </section>
      )}
      {page && <p class="quiet about">{words.about(page.version)}</p>}
    </Dialog>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  value: Signal<T>;
  choices: Readonly<Record<T, string>>;
}

function Choice<T extends string>({ label, value, choices }: ChoiceProps<T>): JSX.Element {
  return (
    <label class="field">
      <span class="field-label">{label}</span>
      <select
        value={value.value}
        onChange={(event) => (value.value = event.currentTarget.value as T)}
      >
        {Object.entries<string>(choices).map(([choice, words]) => (
          <option key={choice} value={choice}>
            {words}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Each field is the server's default until it is given a number; the server sets the limits. */
function SamplingGroup({ page: { defaults } }: { page: PageInfo }): JSX.Element {
  const { preferences, model } = useApp();
  const words = t.value;
  const sampling = preferences.sampling.value;
  const longest = model.value?.max_model_len ?? 1_000_000;
  const set = (name: keyof SamplingSettings) => (number: number | null) => {
    const { [name]: _, ...others } = preferences.sampling.peek();
    preferences.sampling.value = number === null ? others : { ...others, [name]: number };
  };
  const field = (name: keyof SamplingSettings) => ({
    value: sampling[name] ?? null,
    placeholder: defaults[name] === null ? words.noLimit : formatNumber(defaults[name], decimals(name)),
    onChange: set(name),
  });
  return (
    <section class="settings-group">
      <h3>{words.generation}</h3>
      <NumberField
        label={words.temperature}
        hint={words.temperatureHint}
        range={{ min: 0, max: 2, step: 0.05 }}
        {...field("temperature")}
      />
      <NumberField
        label={words.topP}
        hint={words.topPHint}
        range={{ min: 0.01, max: 1, step: 0.01 }}
        {...field("top_p")}
      />
      <NumberField
        label={words.maxTokens}
        hint={words.maxTokensHint}
        range={{ min: 1, max: longest, step: 1 }}
        {...field("max_tokens")}
      />
      <NumberField
        label={words.thinkingBudget}
        hint={words.thinkingBudgetHint}
        range={{ min: 1, max: longest, step: 1 }}
        {...field("thinking_budget")}
      />
      <button
        type="button"
        class="button"
        disabled={Object.keys(sampling).length === 0}
        onClick={() => (preferences.sampling.value = {})}
      >
        {words.resetDefaults}
      </button>
    </section>
  );
}

function decimals(name: keyof SamplingSettings): number {
  return name === "temperature" || name === "top_p" ? 2 : 0;
}
