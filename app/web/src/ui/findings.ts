// Probabilities against thresholds: which findings are above, near and below.

import type { Answer, ModelInfo, ThresholdResult } from '../types'

const NEAR = 2 // a probability below its threshold, but with at least half the odds of it, is near

/** Where a probability is; "unknown" without a threshold. In this order on the page. */
export const GROUPS = ['above', 'near', 'below', 'unknown'] as const

export type Group = (typeof GROUPS)[number]

/** One output of a model for one image. */
export interface Finding {
  name: string
  /** Index in probabilities and maps. */
  output: number
  probability: number
  threshold: number | null
  /** Odds of the probability over odds of the threshold. */
  ratio: number | null
  group: Group
  test: ThresholdResult | null
}

/** What a model predicts, in order: the findings, then Abnormal. */
export function outputsOf(info: ModelInfo): string[] {
  return [...info.label_space.findings, info.label_space.abnormal]
}

/** All outputs, the most probable first. */
export function findingsOf(info: ModelInfo, answer: Answer): Finding[] {
  return outputsOf(info)
    .map((name, output) => {
      const probability = answer.probabilities[output]
      const threshold = info.thresholds[name] ?? null
      const ratio = threshold === null ? null : odds(probability) / odds(threshold)
      const group = groupOf(probability, threshold)
      return { name, output, probability, threshold, ratio, group, test: info.test[name] ?? null }
    })
    .sort((a, b) => b.probability - a.probability || a.output - b.output)
}

export function groupOf(probability: number, threshold: number | null): Group {
  if (threshold === null) return 'unknown'
  if (probability >= threshold) return 'above'
  return odds(probability) * NEAR >= odds(threshold) ? 'near' : 'below'
}

/** The finding whose map is shown first: the one farthest above its threshold, else Abnormal. */
export function mostNotable(info: ModelInfo, findings: Finding[]): string {
  const above = findings.filter((one) => one.group === 'above' && one.name !== info.label_space.abnormal)
  above.sort((a, b) => b.ratio! - a.ratio!)
  return above[0]?.name ?? info.label_space.abnormal
}

/** One output that both models predict, or that only one of them predicts. */
export interface Pair {
  name: string
  first: Finding | null
  second: Finding | null
  /** Probability of the second minus that of the first. */
  difference: number | null
  group: 'differ' | 'both' | 'neither' | 'other'
}

/** The outputs of two models side by side, the largest difference first. */
export function pairsOf(first: Finding[], second: Finding[]): Pair[] {
  const names = [...new Set([...first, ...second].map((one) => one.name))]
  return names
    .map((name): Pair => {
      const a = first.find((one) => one.name === name) ?? null
      const b = second.find((one) => one.name === name) ?? null
      if (!a || !b) return { name, first: a, second: b, difference: null, group: 'other' }
      return { name, first: a, second: b, difference: b.probability - a.probability, group: pairGroup(a, b) }
    })
    .sort((a, b) => Math.abs(b.difference ?? 0) - Math.abs(a.difference ?? 0))
}

function pairGroup(a: Finding, b: Finding): Pair['group'] {
  if (a.group === 'unknown' || b.group === 'unknown') return 'other'
  const calls = [a, b].filter((one) => one.group === 'above').length
  return calls === 1 ? 'differ' : calls === 2 ? 'both' : 'neither'
}

function odds(probability: number): number {
  return probability / (1 - probability)
}
