// Two models side by side: their images, and a row for each finding with both probabilities.

import { jump, onBar, Ticks } from './FindingList'
import { type Finding, type Pair, pairsOf } from './findings'
import { percent, place, points, spoken } from './words'

interface Props {
  names: [string, string]
  first: Finding[]
  second: Finding[]
  selected: string | null
  onSelect: (name: string) => void
  /** What one must know to read the probabilities. */
  hints: string[]
}

const SIDES = ['first', 'second']

const GROUPS: [Pair['group'], string, string][] = [
  ['differ', 'Calls differ', 'one is above its threshold, the other is not'],
  ['both', 'Both above threshold', ''],
  ['neither', 'Both below threshold', ''],
  ['other', 'Not comparable', 'only one model predicts it or has a threshold for it'],
]

export function Comparison({ names, first, second, selected, onSelect, hints }: Props) {
  const pairs = pairsOf(first, second)
  return (
    <div class="findings comparison" onKeyDown={jump}>
      <div class="pair axis" aria-hidden="true">
        <span class="name">Finding</span>
        <span class="first">{names[0]}</span>
        <span class="second">{names[1]}</span>
        <span class="change">points</span>
        <Ticks />
      </div>
      {GROUPS.map(([group, title, hint]) => {
        const members = pairs.filter((one) => one.group === group)
        if (!members.length) return null
        return (
          <fieldset class={`group ${group}`} key={group} data-group={group}>
            <legend>
              {title} <span class="number">{members.length}</span>
              {hint && <span class="hint">{hint}</span>}
            </legend>
            {members.map((pair) => (
              <PairRow key={pair.name} pair={pair} names={names} checked={pair.name === selected} onSelect={onSelect} />
            ))}
          </fieldset>
        )
      })}
      {hints.map((hint) => (
        <p class="footnote" key={hint}>
          {hint}
        </p>
      ))}
      <p class="footnote">
        Points: probability of {names[1]} minus that of {names[0]}, in percentage points; the largest difference first.
        Dots are probabilities in percent, upright lines thresholds. ▲ marks probabilities at or above the model's own
        threshold.
      </p>
    </div>
  )
}

interface RowProps {
  pair: Pair
  names: [string, string]
  checked: boolean
  onSelect: (name: string) => void
}

function PairRow({ pair, names, checked, onSelect }: RowProps) {
  const { first, second, difference } = pair
  const said = [first, second].map(
    (one, i) => `${names[i]}: ${one ? `${percent(one.probability)}, ${place(one)}` : 'does not predict it'}`,
  )
  const change = difference === null ? '' : `; difference ${points(difference)} points`
  return (
    <label class="pair" data-finding={pair.name}>
      <input
        type="radio"
        name="finding"
        checked={checked}
        onChange={() => onSelect(pair.name)}
        aria-label={`${spoken(pair.name)}. ${said.join('. ')}${change}`}
      />
      <span class="name">{spoken(pair.name)}</span>
      <Value finding={first} side="first" />
      <Value finding={second} side="second" />
      <span class="change">{difference === null ? '–' : points(difference)}</span>
      <span class="dumbbell" aria-hidden="true">
        {[first, second].map(
          (one, i) => one && one.threshold !== null && <Mark key={i} at={one.threshold} side={SIDES[i]} />,
        )}
        {first && second && <Between a={first.probability} b={second.probability} />}
        {first && <span class="dot first" style={{ left: onBar(first.probability) }} />}
        {second && <span class="dot second" style={{ left: onBar(second.probability) }} />}
      </span>
    </label>
  )
}

function Value({ finding, side }: { finding: Finding | null; side: 'first' | 'second' }) {
  return (
    <span class={`${side} ${finding?.group ?? ''}`}>
      {finding ? percent(finding.probability) : '–'}
      {finding?.group === 'above' && <span class="flag"> ▲</span>}
    </span>
  )
}

/** The threshold of one model. */
function Mark({ at, side }: { at: number; side: string }) {
  return <span class={`mark ${side}`} style={{ left: onBar(at) }} />
}

function Between({ a, b }: { a: number; b: number }) {
  const [low, high] = [Math.min(a, b), Math.max(a, b)]
  const width = 100 * (Math.sqrt(high) - Math.sqrt(low))
  return <span class="between" style={{ left: onBar(low), width: `${width}%` }} />
}
