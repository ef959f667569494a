// What is known about the selected finding.

import type { ModelInfo } from '../types'
import type { Finding } from './findings'
import type { Field } from './maps'
import { mapInWords, meaning, methodInWords, percent, place, title } from './words'

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
        {ratio !== null && Number.isFinite(ratio) && <span class="ratio"> ({ratio.toPrecision(2)} × its odds)</span>}
      </p>
      <p>{meaning(finding, info).join(' ')}</p>
      {field ? (
        <p>
          Map: {mapInWords(field)}. <span class="hint">{methodInWords(info, field)}</span>
        </p>
      ) : (
        <p class="hint">This model was exported without maps.</p>
      )}
    </section>
  )
}
