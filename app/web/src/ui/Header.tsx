// Title, choice of models and theme, and the notices that are always on the screen.

import { useState } from 'preact/hooks'
import { SyntheticNotice } from './Facts'
import type { Model, Session } from './session'
import { chooseTheme, currentTheme } from './theme'
import { RESEARCH_ONLY } from './words'

export function Header({ session }: { session: Session }) {
  const { models, model, second } = session
  return (
    <header class="top">
      <div class="bar-top">
        <h1>CheXVision</h1>
        {models.length > 1 && model && (
          <div class="choices">
            <Choice label="Model" models={models} chosen={model} onChoose={(one) => session.choose(one!, second)} />
            <Choice
              label="Compare with"
              none="nothing"
              models={models.filter((one) => one !== model)}
              chosen={second}
              onChoose={(one) => session.choose(model, one)}
            />
          </div>
        )}
        <ThemeButton />
      </div>
      <p class="notice research">
        {RESEARCH_ONLY} <strong>Nothing is uploaded:</strong> images stay in this browser.
      </p>
      <SyntheticNotice models={session.shown} />
    </header>
  )
}

interface ChoiceProps {
  label: string
  none?: string
  models: Model[]
  chosen: Model | null
  onChoose: (model: Model | null) => void
}

function Choice({ label, none, models, chosen, onChoose }: ChoiceProps) {
  return (
    <label class="choice">
      <span>{label}</span>
      <select
        value={chosen?.entry.folder ?? ''}
        onChange={(event) => {
          const folder = event.currentTarget.value
          onChoose(models.find((one) => one.entry.folder === folder) ?? null)
        }}
      >
        {none && <option value="">{none}</option>}
        {models.map((one) => (
          <option key={one.entry.folder} value={one.entry.folder}>
            {one.entry.name}
          </option>
        ))}
      </select>
    </label>
  )
}

function ThemeButton() {
  const [theme, setTheme] = useState(currentTheme)
  const other = theme === 'dark' ? 'light' : 'dark'
  return (
    <button
      type="button"
      class="theme"
      aria-label={`Use ${other} colors`}
      onClick={() => {
        chooseTheme(other)
        setTheme(other)
      }}
    >
      {theme === 'dark' ? '☀' : '☾'}
    </button>
  )
}
