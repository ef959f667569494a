// Heat maps as numbers: scale, peak, difference, enlargement.

import type { HeatMaps } from '../types'

/** One map: `values[row * width + column]`. */
export interface Field {
  values: Float32Array
  width: number
  height: number
}

export function fieldOf(maps: HeatMaps, output: number): Field {
  const size = maps.width * maps.height
  return { values: maps.values.subarray(output * size, (output + 1) * size), width: maps.width, height: maps.height }
}

/** The largest value over all outputs: the end of the color scale. */
export function scaleOf(maps: HeatMaps): number {
  return maps.values.reduce((largest, value) => Math.max(largest, value), 0)
}

export function largestOf(field: Field): number {
  return field.values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
}

/** Where a field is largest, as fractions of the image's width and height, and the share of cells above half of it. */
export function peakOf(field: Field): { x: number; y: number; value: number; share: number } {
  const value = largestOf(field)
  const at = field.values.findIndex((one) => Math.abs(one) === value)
  const half = field.values.filter((one) => Math.abs(one) >= value / 2).length
  return {
    x: ((at % field.width) + 0.5) / field.width,
    y: (Math.floor(at / field.width) + 0.5) / field.height,
    value,
    share: half / field.values.length,
  }
}

/** Bilinear, between the centers of the cells, as OpenCV's INTER_LINEAR. */
export function enlarged(field: Field, width: number, height: number): Field {
  const columns = positions(field.width, width)
  const rows = positions(field.height, height)
  const values = new Float32Array(width * height)
  for (let y = 0; y < height; y++) {
    const { low, high, share } = rows[y]
    for (let x = 0; x < width; x++) {
      const column = columns[x]
      const top = mix(field.values, low * field.width, column)
      const bottom = mix(field.values, high * field.width, column)
      values[y * width + x] = top + (bottom - top) * share
    }
  }
  return { values, width, height }
}

/** The second map minus the first, on the finer grid. The sum over a map's cells is a part of the logit, so the value
 * of a cell depends on how many there are: the second is converted to the first's number of cells. */
export function differenceOf(first: Field, second: Field): Field {
  const width = Math.max(first.width, second.width)
  const height = Math.max(first.height, second.height)
  const a = enlarged(first, width, height)
  const b = enlarged(second, width, height)
  const factor = sameCells(first, second)
  return { values: b.values.map((value, i) => value * factor - a.values[i]), width, height }
}

/** What values of the second map are multiplied by to be those of a map with the first's number of cells. */
export function sameCells(first: { width: number; height: number }, second: { width: number; height: number }): number {
  return (second.width * second.height) / (first.width * first.height)
}

interface Position {
  low: number
  high: number
  share: number
}

function positions(from: number, to: number): Position[] {
  return Array.from({ length: to }, (_, i) => {
    const at = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1)
    const low = Math.floor(at)
    return { low, high: Math.min(low + 1, from - 1), share: at - low }
  })
}

function mix(values: Float32Array, row: number, { low, high, share }: Position): number {
  const left = values[row + low]
  return left + (values[row + high] - left) * share
}
