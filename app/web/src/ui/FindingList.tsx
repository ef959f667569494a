// The findings of one model in groups, as radio buttons that choose whose map is shown.

import type { ModelInfo } from '../types'
import { type Finding, GROUPS, outputsOf } from './findings'
import { GROUP_TITLES, NEAR_MEANS, percent, place, readingHints, spoken, title } from './words'

interface Props {
  info: ModelInfo
  /** Null while they are computed. */
  findings: Finding[] | null
  selected: string | null
  onSelect: (name: string) => void
}

const TICKS = [0, 0.01, 0.1, 0.25, 0.5, 1]

/** Where a probability is on a bar, in percent of its length: square roots, so that small ones can be seen. */
export function onBar(probability: number): string {
  return `${100 * Math.sqrt(probability)}%`
}

export function FindingList({ info, findings, selected, onSelect }: Props) {
  if (!findings) return <Skeleton rows={outputsOf(info).length} />
  const overall = findings.filter((one) => one.name === info.label_space.abnormal)
  const others = findings.filter((one) => one.name !== info.label_space.abnormal)
  const row = (one: Finding) => (
    <Row key={one.name} finding={one} info={info} checked={one.name === selected} onSelect={onSelect} />
  )
  return (
    <div class="findings" onKeyDown={jump}>
      <Axis />
      <fieldset class={`group ${overall[0].group}`}>
        <legend>
          Any finding <span class="hint">{GROUP_TITLES[overall[0].group].toLowerCase()}</span>
        </legend>
        {overall.map(row)}
      </fieldset>
      {GROUPS.map((group) => {
        const members = others.filter((one) => one.group === group)
        if (!members.length && group !== 'above') return null
        return (
          <fieldset class={`group ${group}`} key={group} data-group={group}>
            <legend>
              {GROUP_TITLES[group]} <span class="number">{members.length}</span>
              {group === 'near' && <span class="hint">{NEAR_MEANS}</span>}
            </legend>
            {members.length ? members.map(row) : <p class="none">No finding reaches its threshold.</p>}
          </fieldset>
        )
      })}
      <p class="footnote">{readingHints(info).join(' ')}</p>
    </div>
  )
}

function Row({
  finding,
  info,
  checked,
  onSelect,
}: {
  finding: Finding
  info: ModelInfo
  checked: boolean
  onSelect: Props['onSelect']
}) {
  const { name, probability, threshold } = finding
  const shown = spoken(name)
  return (
    <label class="row" data-finding={name}>
      <input
        type="radio"
        name="finding"
        checked={checked}
        onChange={() => onSelect(name)}
        aria-label={`${title(name, info)}: ${percent(probability)}, ${place(finding)}`}
      />
      <span class="name">{shown}</span>
      <Bar probability={probability} threshold={threshold} />
      <span class="probability">{percent(probability)}</span>
      <span class="threshold">{threshold === null ? 'no threshold' : `≥ ${percent(threshold)}`}</span>
    </label>
  )
}

function Bar({ probability, threshold }: { probability: number; threshold: number | null }) {
  return (
    <span class="bar" aria-hidden="true">
      <span class="fill" style={{ width: onBar(probability) }} />
      {threshold !== null && <span class="mark" style={{ left: onBar(threshold) }} />}
    </span>
  )
}

/** Above the bars: their scale. */
function Axis() {
  return (
    <div class="row axis" aria-hidden="true">
      <span class="name" />
      <Ticks />
      <span class="probability">%</span>
      <span class="threshold">threshold</span>
    </div>
  )
}

export function Ticks() {
  return (
    <span class="ticks">
      {TICKS.map((tick) => (
        <span key={tick} style={{ left: onBar(tick) }}>
          {100 * tick}
        </span>
      ))}
    </span>
  )
}

function Skeleton({ rows }: { rows: number }) {
  return (
    <div class="findings skeleton" aria-hidden="true">
      {Array.from({ length: rows }, (_, i) => (
        <div class="row" key={i} />
      ))}
    </div>
  )
}

/** Home and End go to the first and the last finding; browsers handle the arrow keys of radio buttons. */
export function jump(event: KeyboardEvent) {
  if (event.key !== 'Home' && event.key !== 'End') return
  const buttons = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLInputElement>('input[type=radio]')]
  const target = event.key === 'Home' ? buttons[0] : buttons[buttons.length - 1]
  event.preventDefault()
  target?.focus()
  target?.click()
}
