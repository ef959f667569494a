// Answers as a JSON file. Nothing of a patient: files are named by their SHA-256 unless the reader wants names.

import { findingsOf } from './findings'
import type { Item, Model } from './session'
import { RESEARCH_ONLY, SYNTHETIC } from './words'

/** The content of the JSON file: the answers of these models for these images. */
export function exported(items: Item[], models: Model[], withNames: boolean): object {
  const used = models.filter((model) => model.info !== null)
  return {
    format: 1,
    created: new Date().toISOString(),
    notice: RESEARCH_ONLY,
    models: used.map(({ entry, info }) => ({
      model: info!.model,
      revision: entry.revision ?? null,
      run_id: info!.run_id,
      version: info!.version,
      files: info!.files,
      synthetic: info!.synthetic,
      ...(info!.synthetic ? { synthetic_notice: SYNTHETIC } : {}),
      calibration: info!.calibration,
      rule: info!.rule,
      test_set: info!.test_set,
    })),
    images: items
      .filter((item) => item.answers.size || item.failure)
      .map((item) => ({
        ...(withNames ? { image: item.file.name } : {}),
        sha256: item.sha256,
        ...(item.failure ? { reason: item.failure.message } : {}),
        width: item.radiograph?.width ?? null,
        height: item.radiograph?.height ?? null,
        notes: item.radiograph?.notes ?? [],
        answers: used.flatMap((model) => answerOf(item, model)),
      })),
  }
}

function answerOf(item: Item, model: Model): object[] {
  const answer = item.answers.get(model)
  if (!answer || !model.info) return []
  const findings = findingsOf(model.info, answer).sort((a, b) => a.output - b.output)
  return [
    {
      model: model.info.model,
      warnings: [...(item.radiograph?.warnings ?? []), ...answer.warnings],
      probabilities: Object.fromEntries(findings.map((one) => [one.name, one.probability])),
      thresholds: Object.fromEntries(
        findings.flatMap((one) => (one.threshold === null ? [] : [[one.name, one.threshold]])),
      ),
      calls: Object.fromEntries(
        findings.flatMap((one) => (one.threshold === null ? [] : [[one.name, one.group === 'above']])),
      ),
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
