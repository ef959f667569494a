// How the map is drawn: style, opacity, colors with numbers.

import { DIFFERENCE_GRADIENT, HEAT_GRADIENT } from './colors'
import type { Style } from './paint'
import { type View, WHOLE, zoomed } from './zoom'

export interface Display {
  style: Style
  opacity: number
  view: View
}

const STYLES: [Style, string][] = [
  ['color', 'Color'],
  ['contours', 'Contours'],
  ['both', 'Both'],
  ['off', 'Off'],
]

interface Props {
  display: Display
  onChange: (display: Display) => void
}

export function OverlayControls({ display, onChange }: Props) {
  const shown = `${Math.round(100 * display.opacity)} %`
  return (
    <div class="controls">
      <fieldset class="segments">
        <legend>Map</legend>
        {STYLES.map(([style, name]) => (
          <label key={style}>
            <input
              type="radio"
              name="style"
              checked={display.style === style}
              onChange={() => onChange({ ...display, style })}
            />
            <span>{name}</span>
          </label>
        ))}
      </fieldset>
      <label class="slider">
        <span>
          Opacity <b>{shown}</b>
        </span>
        <input
          type="range"
          min="0"
          max="100"
          step="5"
          value={100 * display.opacity}
          aria-valuetext={shown}
          disabled={display.style === 'off'}
          onInput={(event) => onChange({ ...display, opacity: Number(event.currentTarget.value) / 100 })}
        />
      </label>
      <Zoom display={display} onChange={onChange} />
    </div>
  )
}

function Zoom({ display, onChange }: Props) {
  const { view } = display
  const shown = `${Math.round(100 * view.scale)} %`
  const go = (next: View) => onChange({ ...display, view: next })
  return (
    <div class="zoom" role="group" aria-label="Zoom">
      <button type="button" aria-label="Zoom out" disabled={view.scale === 1} onClick={() => go(zoomed(view, 1 / 1.5))}>
        −
      </button>
      <button type="button" class="value" aria-label={`${shown}, show the whole image`} onClick={() => go(WHOLE)}>
        {shown}
      </button>
      <button type="button" aria-label="Zoom in" disabled={view.scale === 8} onClick={() => go(zoomed(view, 1.5))}>
        +
      </button>
    </div>
  )
}

interface HeatProps {
  scale: number
  opacity: number
  /** What the scale is shared by, and what its end is. */
  children: string
}

/** The colors of a map from 0 to the largest value over all findings. */
export function HeatLegend({ scale, opacity, children }: HeatProps) {
  const label = `Color scale from 0 to ${scale.toPrecision(3)} logit. ${children}`
  return (
    <figure class="legend" role="group" aria-label={label}>
      <Colors gradient={HEAT_GRADIENT} opacity={opacity} />
      <span class="numbers" aria-hidden="true">
        {[0, 0.25, 0.5, 0.75, 1].map((part) => (
          <span key={part}>{part === 0 ? '0' : (part * scale).toPrecision(2)}</span>
        ))}
      </span>
      <figcaption>logit. {children}</figcaption>
    </figure>
  )
}

interface DifferenceProps {
  scale: number
  first: string
  second: string
  opacity: number
}

/** The colors of a difference of two maps. */
export function DifferenceLegend({ scale, first, second, opacity }: DifferenceProps) {
  return (
    <figure class="legend difference">
      <Colors gradient={DIFFERENCE_GRADIENT} opacity={opacity} />
      <span class="numbers" aria-hidden="true">
        <span>{scale.toPrecision(2)}</span>
        <span>0</span>
        <span>{scale.toPrecision(2)}</span>
      </span>
      <figcaption>
        Orange: higher for {first}; blue: higher for {second}; logit.
      </figcaption>
    </figure>
  )
}

function Colors({ gradient, opacity }: { gradient: string; opacity: number }) {
  return (
    <span class="colors" aria-hidden="true">
      <span style={{ backgroundImage: gradient, opacity: String(opacity) }} />
    </span>
  )
}
