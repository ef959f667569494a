// Which model answers, and what it was tested on.

import type { ComponentChildren } from 'preact'
import type { Model } from './session'
import { count, megabytes, SYNTHETIC } from './words'

export function Facts({ model }: { model: Model }) {
  const { entry, info } = model
  if (!info) return null
  const file = info.files['onnx/model.onnx']
  return (
    <dl class="facts">
      <Fact name="Model">
        {entry.url ? (
          <a href={entry.url} rel="noreferrer">
            {info.model}
          </a>
        ) : (
          info.model
        )}
      </Fact>
      <Fact name={entry.revision ? 'Revision' : 'Training run'}>{entry.revision ?? info.run_id ?? 'not stated'}</Fact>
      <Fact name="Training data">
        {info.data ?? 'not stated'}
        {info.synthetic && <strong> — synthetic images</strong>}
      </Fact>
      <Fact name="Tested on">{info.test_set ?? 'not stated'}</Fact>
      <Fact name="Input">{`${info.image_size} × ${info.image_size} pixels`}</Fact>
      <Fact name="Probabilities">
        {info.calibration === 'none' ? 'not calibrated' : `calibrated: ${info.calibration}`}
      </Fact>
      <Fact name="Thresholds">{Object.keys(info.thresholds).length ? info.rule : 'none'}</Fact>
      <Fact name="Maps">{info.map_method ?? 'none'}</Fact>
      <Fact name="Input check">
        {info.checks.length ? count(info.checks.length, 'test') : 'none: unsuitable images are not noticed'}
      </Fact>
      <Fact name="File">
        {megabytes(file.bytes)}, sha256 <code>{file.sha256.slice(0, 12)}</code>, chexvision {info.version}
      </Fact>
    </dl>
  )
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  )
}

/** Always on the screen for models trained on synthetic images. */
export function SyntheticNotice({ models }: { models: Model[] }) {
  const synthetic = models.filter((model) => model.info?.synthetic)
  if (!synthetic.length) return null
  return (
    <p class="notice synthetic">
      <strong>{models.length > 1 ? synthetic.map((model) => model.entry.name).join(' and ') : 'Synthetic'}:</strong>{' '}
      {SYNTHETIC}
    </p>
  )
}
