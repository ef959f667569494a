// Stored values of a DICOM image to gray, as one table over all of them; the same steps in the same order as in
// src/chexvision/images/dicom_gray.py (PS3.3, sections C.7.6.3, C.11.1, C.11.2).
//
// Stored values → modality LUT → VOI LUT or window → inverted if low values are to be bright → 0 to 255.

import { PageError } from '../../types'
import { depthOf, type Gray } from '../pixels'
import { type Elements, TAG } from './elements'
import type { FrameFormat, Samples } from './frame'

// Of images without a window, in percent: markers, collimators and dead pixels are at the ends.
const LOWEST = 0.5
const HIGHEST = 99.5

const damaged = (what: string) => new PageError(`The DICOM file is damaged: ${what}.`)

/** Stored values as gray, and what was done in words. */
export function displayed(stored: Samples, frame: FrameFormat, elements: Elements): { pixels: Gray; notes: string[] } {
  const { bitsStored, signed } = frame
  const codes = 1 << bitsStored
  const storedAs = Float64Array.from({ length: codes }, (_, code) =>
    signed && code >= codes / 2 ? code - codes : code,
  )
  const notes = [`${bitsStored}-bit${signed ? ' signed' : ''} values`]
  const values = modality(storedAs, elements, signed, notes)
  const padding = paddingOf(storedAs, elements, signed)
  const counts = new Float64Array(codes)
  let padded = 0
  for (let i = 0; i < stored.length; i++) {
    if (padding[stored[i]]) padded++
    else counts[stored[i]]++
  }
  const bright = display(values, counts, elements, frame, notes)
  if (elements.text(TAG.photometric) === 'MONOCHROME1' || elements.text(TAG.presentationLut) === 'INVERSE') {
    for (let code = 0; code < codes; code++) bright[code] = 1 - bright[code]
    notes.push('inverted, as the file asks for')
  }
  const table = Uint8Array.from(bright, (value, code) => (padded && padding[code] ? 0 : Math.floor(255 * value + 0.5)))
  if (padded) notes.push('padding made black')
  const pixels = new Uint8Array(stored.length)
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[stored[i]]
  return { pixels, notes }
}

function modality(storedAs: Float64Array, elements: Elements, signed: boolean, notes: string[]): Float64Array {
  const item = elements.items.get(TAG.modalityLut)
  if (item) {
    notes.push('modality LUT')
    return lookUp(readLut(item, signed), storedAs)
  }
  const slope = finite(elements, TAG.slope, 1)
  const intercept = finite(elements, TAG.intercept, 0)
  if (slope === 0) throw damaged('its rescale slope is 0')
  if (slope !== 1 || intercept !== 0) notes.push('rescaled by slope and intercept')
  return storedAs.map((value) => value * slope + intercept)
}

/** Brightness in [0, 1] of each value, before any inversion. */
function display(
  values: Float64Array,
  counts: Float64Array,
  elements: Elements,
  frame: FrameFormat,
  notes: string[],
): Float64Array {
  const item = elements.items.get(TAG.voiLut)
  if (item) {
    const lut = readLut(item, values.some((value) => value < 0))
    const highest = lut.entries.reduce((a, b) => Math.max(a, b), 0)
    let largest = 2 ** lut.bits - 1
    // A wrong descriptor would leave the image dark.
    if (highest <= Math.floor(largest / 2)) largest = 2 ** depthOf(highest) - 1
    notes.push("the file's VOI LUT")
    return lookUp(lut, values).map((value) => Math.min(value / largest, 1))
  }
  const window = windowOf(elements, notes)
  if (window) return values.map(window)
  let low: number
  let high: number
  if (frame.bitsStored === 8) {
    notes.push('all 256 values')
    low = values.reduce((a, b) => Math.min(a, b))
    high = values.reduce((a, b) => Math.max(a, b))
  } else {
    notes.push(`no window in the file: from percentile ${LOWEST} to ${HIGHEST} of its pixels`)
    ;[low, high] = percentiles(values, counts)
  }
  return values.map((value) => (high > low ? clip((value - low) / (high - low)) : 0))
}

/** The first window; null where there is none that is valid. */
function windowOf(elements: Elements, notes: string[]): ((value: number) => number) | null {
  let centers: number[]
  let widths: number[]
  try {
    centers = elements.decimals(TAG.windowCenter)
    widths = elements.decimals(TAG.windowWidth)
  } catch {
    return null
  }
  const shape = elements.text(TAG.voiFunction) || 'LINEAR'
  if (!centers.length || !widths.length || !['LINEAR', 'LINEAR_EXACT', 'SIGMOID'].includes(shape)) return null
  const [center, width] = [centers[0], widths[0]]
  if (!(Number.isFinite(center) && Number.isFinite(width) && width >= (shape === 'LINEAR' ? 1 : 1e-6))) return null
  const windows = Math.min(centers.length, widths.length)
  const several = windows > 1 ? `, the first of ${windows}` : ''
  notes.push(`the file's window (${shape.toLowerCase().replace('_', ' ')}${several})`)
  if (shape === 'SIGMOID') return (value) => 1 / (1 + Math.exp(clip((-4 * (value - center)) / width, -700, 700)))
  if (shape === 'LINEAR_EXACT') return (value) => clip((value - center) / width + 0.5)
  if (width === 1) return (value) => Number(value > center - 0.5)
  return (value) => clip((value - (center - 0.5)) / (width - 1) + 0.5)
}

function clip(value: number, low = 0, high = 1): number {
  return Math.min(Math.max(value, low), high)
}

/** The smallest values that these shares of the pixels do not exceed. */
function percentiles(values: Float64Array, counts: Float64Array): [number, number] {
  const order = Uint32Array.from(values, (_, code) => code).sort((a, b) => values[a] - values[b] || a - b)
  const total = counts.reduce((a, b) => a + b, 0)
  const valueAt = (percent: number): number => {
    let reached = 0
    for (const code of order) {
      reached += counts[code]
      if (reached >= (percent / 100) * total) return values[code]
    }
    return values[order[order.length - 1]]
  }
  return [valueAt(LOWEST), valueAt(HIGHEST)]
}

/** Which values are not pixels: PixelPaddingValue, up to PixelPaddingRangeLimit. */
function paddingOf(storedAs: Float64Array, elements: Elements, signed: boolean): Uint8Array {
  const [first] = elements.shorts(TAG.padding)
  if (first === undefined) return new Uint8Array(storedAs.length)
  const limits = [asSigned(first, signed), asSigned(elements.short(TAG.paddingLimit, first), signed)]
  return Uint8Array.from(storedAs, (value) => Number(value >= Math.min(...limits) && value <= Math.max(...limits)))
}

/** A lookup table of a file: the input of its first entry, the bits of an entry as it says, and the entries. */
interface Lut {
  first: number
  bits: number
  entries: number[]
}

function readLut(item: Elements, signed: boolean): Lut {
  const descriptor = item.shorts(TAG.lutDescriptor)
  if (descriptor.length !== 3) throw damaged('a lookup table has no descriptor')
  const count = descriptor[0] || 1 << 16
  const bits = descriptor[2]
  const data = item.values.get(TAG.lutData) ?? new Uint8Array(0)
  if (!(bits >= 8 && bits <= 16) || data.length < count) throw damaged('a lookup table is not complete')
  const entries = data.length >= 2 * count ? item.shorts(TAG.lutData).slice(0, count) : Array.from(data.subarray(0, count))
  return { first: asSigned(descriptor[1], signed), bits, entries }
}

/** The entries of `values`; those outside take the first or the last. */
function lookUp(lut: Lut, values: Float64Array): Float64Array {
  return values.map((value) => lut.entries[clip(roundHalfEven(value) - lut.first, 0, lut.entries.length - 1)])
}

function roundHalfEven(value: number): number {
  const below = Math.floor(value)
  if (value - below !== 0.5) return Math.round(value)
  return below % 2 === 0 ? below : below + 1
}

function asSigned(value: number, signed: boolean): number {
  return signed && value >= 1 << 15 ? value - (1 << 16) : value
}

function finite(elements: Elements, tag: number, otherwise: number): number {
  const value = elements.decimals(tag)[0] ?? otherwise
  if (!Number.isFinite(value) || Math.abs(value) > 1e12) throw damaged('its rescale values are not numbers')
  return value
}
