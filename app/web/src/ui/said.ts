// What a model says about the image on the screen.

import { useMemo } from 'preact/hooks'
import { type Finding, findingsOf } from './findings'
import { type Field, fieldOf, scaleOf } from './maps'
import type { Overlay, Style } from './paint'
import type { Item, Model } from './session'

export interface Said {
  model: Model
  findings: Finding[]
  /** Maps by output; the largest value over them. */
  fields: Map<string, Field>
  scale: number
  largest: string
}

/** Null until the model has answered. */
export function useSaid(item: Item, model: Model | null): Said | null {
  const answer = model ? item.answers.get(model) : undefined
  return useMemo(() => {
    if (!model?.info || !answer) return null
    const findings = findingsOf(model.info, answer)
    const { maps } = answer
    if (!maps) return { model, findings, fields: new Map(), scale: 0, largest: '' }
    const fields = new Map(findings.map((one) => [one.name, fieldOf(maps, one.output)]))
    const scale = scaleOf(maps)
    const largest = findings.find((one) => fields.get(one.name)!.values.includes(scale))!.name
    return { model, findings, fields, scale, largest }
  }, [model?.info, answer])
}

/** The map of one output; null where the model gives none. */
export function overlayOf(said: Said, name: string, style: Style): Overlay | null {
  const field = said.fields.get(name)
  return field ? { field, scale: said.scale, style, signed: false } : null
}
