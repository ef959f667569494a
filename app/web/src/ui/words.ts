// What the page says in sentences.

import type { ModelInfo } from '../types'
import type { Finding } from './findings'
import { type Field, peakOf } from './maps'

export const RESEARCH_ONLY = 'For research only; not a medical device. Not for decisions about patients.'

export const SYNTHETIC =
  'This model was trained on synthetic images. Its probabilities say nothing about real patients.'

export const NEAR_MEANS = 'below, with at least half the odds of the threshold'

/** What one must know to read the probabilities. */
export function readingHints(info: ModelInfo): string[] {
  const hints = []
  if (info.calibration === 'none') {
    hints.push('These probabilities are not calibrated: they order images, but are no frequencies.')
  }
  if (Object.values(info.thresholds).some((threshold) => threshold < 0.5)) {
    hints.push(
      'Each finding has its own threshold. Most findings are rare, so a probability well below 50 % can already be far ' +
        'more than usual, and be above the threshold.',
    )
  }
  return hints
}

const SPACE = '\u00a0'

/** A probability in percent, with one decimal, or two below 1 %. */
export function percent(probability: number): string {
  const value = 100 * probability
  if (value > 0 && value < 0.01) return `<0.01${SPACE}%`
  if (value > 99.99 && value < 100) return `>99.99${SPACE}%`
  return `${value.toFixed(value < 1 || value > 99 ? 2 : 1)}${SPACE}%`
}

/** A difference of probabilities in percentage points, with its sign. */
export function points(difference: number): string {
  const value = (100 * difference).toFixed(1)
  return `${difference > 0 ? '+' : ''}${value.replace('-', '−').replace(/^−0\.0$/, '0.0')}`
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)}${SPACE}MB`
}

export function count(of: number, one: string, many = `${one}s`): string {
  return `${of.toLocaleString('en')} ${of === 1 ? one : many}`
}

/** "Pleural_Thickening" as people write it. */
export function spoken(name: string): string {
  return name.replaceAll('_', ' ')
}

export function title(name: string, info: ModelInfo): string {
  return name === info.label_space.abnormal ? `${spoken(name)} (any finding)` : spoken(name)
}

export const GROUP_TITLES = {
  above: 'Above threshold',
  near: 'Near threshold',
  below: 'Below threshold',
  unknown: 'No threshold',
} as const

/** Where a probability is: "above its threshold of 12.0 %". */
export function place({ group, threshold, ratio }: Finding): string {
  if (threshold === null || ratio === null) return 'this model has no threshold for it'
  const at = `threshold of ${percent(threshold)}`
  if (group === 'above') return `above its ${at}`
  return group === 'near' ? `below, but near, its ${at}` : `below its ${at}`
}

/** One result of a threshold on the test images. */
export interface Result {
  name: string
  value: string
  of: string
}

/** What a threshold means: how it did on the test images; empty where that was not measured. */
export function resultsOf({ name, test }: Finding, info: ModelInfo): Result[] {
  if (!test) return []
  const subject = name === info.label_space.abnormal ? 'any finding' : spoken(name)
  const { positives, images } = test
  const withIt = positives === null ? 'of the images' : `of ${count(positives, 'image')}`
  const without = positives === null || images === null ? 'of the images' : `of ${count(images - positives, 'image')}`
  const results: [string, number | null, string][] = [
    ['Sensitivity', test.sensitivity, `${withIt} with ${subject} are at or above it`],
    ['Specificity', test.specificity, `${without} without are below it`],
    ['Precision', test.precision, `of the images at or above it have ${subject}; this depends on how common it is`],
  ]
  return results.flatMap(([name, value, of]) => (value === null ? [] : [{ name, value: percent(value), of }]))
}

/** A map in words, for people who do not see it. */
export function mapInWords(field: Field): string {
  const { x, y, value, share } = peakOf(field)
  if (value === 0) return 'nothing in the image raises this finding'
  const row = third(y, 'upper', 'middle', 'lower')
  const column = third(x, 'left', 'center', 'right')
  const spot = row === 'middle' && column === 'center' ? 'center' : `${row} ${column}`
  return `strongest at the ${spot} of the image, ${value.toPrecision(3)}; ${Math.max(1, Math.round(100 * share))}${SPACE}% of the image is above half of that`
}

/** The method of the maps and its limits. */
export function methodInWords(info: ModelInfo, field: Field): string {
  return (
    `${info.map_method}: regions that raise this output of the model, in ${field.width} × ${field.height} cells. It does not ` +
    'outline a lesion, and can be strong where nothing is wrong.'
  )
}

function third(at: number, low: string, middle: string, high: string): string {
  return at < 1 / 3 ? low : at < 2 / 3 ? middle : high
}
