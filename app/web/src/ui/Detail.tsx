// What is known about the selected finding.

import type { ModelInfo } from '../types'
import type { Finding } from './findings'
import type { Field } from './maps'
import { mapInWords, methodInWords, percent, place, resultsOf, title } from './words'

interface Props {
  info: ModelInfo
  finding: Finding
  field: Field | null
  /** Of several models, the name of this one. */
  model?: string
}

export function Detail({ info, finding, field, model }: Props) {
  const { ratio } = finding
  return (
    <section class="detail" aria-label={`Selected finding${model ? `, ${model}` : ''}`}>
      <h2>
        {title(finding.name, info)}
        {model && <span class="of-model">{model}</span>}
      </h2>
      <p class={`verdict ${finding.group}`}>
        <strong>{percent(finding.probability)}</strong> {place(finding)}
        {ratio !== null && Number.isFinite(ratio) && (
          <span class="hint">; its odds are {times(ratio)} those of the threshold</span>
        )}
      </p>
      <Threshold info={info} finding={finding} />
      {field ? (
        <p>
          Map: {mapInWords(field)}. <span class="hint">{methodInWords(info, field)}</span>
        </p>
      ) : (
        <p class="hint">This model was exported without maps{info.without_maps ? `: ${info.without_maps}` : ''}.</p>
      )}
    </section>
  )
}

/** What the threshold means. */
function Threshold({ info, finding }: { info: ModelInfo; finding: Finding }) {
  if (finding.threshold === null) return <p>The model was published without a threshold for this output.</p>
  const results = resultsOf(finding, info)
  const set = info.test_set ?? 'the test images'
  return (
    <>
      <p>
        The threshold was chosen by this rule: {info.rule}.{' '}
        {results.length ? `On ${set}:` : `How it does on ${set} was not measured, or there were too few images.`}
      </p>
      {results.length > 0 && (
        <dl class="results">
          {results.map(({ name, value, of }) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>
                <strong>{value}</strong> {of}
              </dd>
            </div>
          ))}
        </dl>
      )}
    </>
  )
}

function times(ratio: number): string {
  const shown = ratio >= 100 ? String(Math.round(ratio)) : String(Number(ratio.toPrecision(2)))
  return `${shown} ${shown === '1' ? 'time' : 'times'}`
}
