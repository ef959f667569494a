// Answers as a JSON file, in the fields of `chexvision predict --json`. Nothing of a patient: an image is named by the
// SHA-256 of its file unless the reader wants names.

import { findingsOf } from './findings'
import type { Item, Model } from './session'
import { RESEARCH_ONLY } from './words'

/** The content of the JSON file: a row for each image and model. */
export function exported(items: Item[], models: Model[], withNames: boolean): object {
  return {
    format: 1,
    created: new Date().toISOString(),
    notice: RESEARCH_ONLY,
    answers: items.flatMap((item) => models.flatMap((model) => rowsOf(item, model, withNames))),
  }
}

function rowsOf(item: Item, model: Model, withNames: boolean): object[] {
  const { info, entry } = model
  const reason = item.failure?.message ?? item.errors.get(model) ?? null
  const answer = item.answers.get(model)
  if (!info || !(answer || reason)) return []
  const findings = answer ? findingsOf(info, answer).sort((a, b) => a.output - b.output) : []
  const judged = findings.filter((one) => one.threshold !== null)
  return [
    {
      image: withNames ? item.file.name : null,
      sha256: item.sha256,
      status: answer ? 'ok' : 'failed',
      reason,
      probabilities: Object.fromEntries(findings.map((one) => [one.name, one.probability])),
      thresholds: Object.fromEntries(judged.map((one) => [one.name, one.threshold])),
      calls: Object.fromEntries(judged.map((one) => [one.name, one.group === 'above'])),
      model: {
        model: info.model,
        revision: entry.revision,
        run_id: info.run_id,
        synthetic: info.synthetic,
        calibrated: info.calibration !== 'none',
        rule: info.rule,
        sha256: info.files['onnx/model.onnx'].sha256,
      },
      engine: `onnxruntime-web, chexvision ${info.version}`,
      notes: item.radiograph?.notes ?? [],
      warnings: [...(item.radiograph?.warnings ?? []), ...(answer?.warnings ?? [])],
    },
  ]
}

/** Let the browser save a JSON file. */
export function save(content: object, name: string): void {
  const address = URL.createObjectURL(new Blob([`${JSON.stringify(content, null, 1)}\n`], { type: 'application/json' }))
  const link = Object.assign(document.createElement('a'), { href: address, download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(address), 60_000)
}
