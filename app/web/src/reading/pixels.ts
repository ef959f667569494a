// Pixels in 8-bit gray, as OpenCV computes them.

import { PageError } from '../types'

// A detector has 20 million; a few kilobytes can encode an image that fills the memory.
export const MOST_PIXELS = 100_000_000

export type Gray = Uint8Array<ArrayBuffer>

const MOST_BYTES = 400_000_000 // while it is decoded

/** Refuses images that are empty or would take too much memory. */
export function checkSize(width: number, height: number, bytesPerPixel: number): void {
  if (!(width > 0 && height > 0)) throw new PageError('The image has no pixels.')
  const most = Math.min(MOST_PIXELS, Math.floor(MOST_BYTES / bytesPerPixel))
  if (width * height > most) {
    throw new PageError(`The image has ${width}×${height} pixels, more than ${most.toLocaleString('en')}.`)
  }
}

/** Luma of 8-bit red, green and blue: 0.299, 0.587 and 0.114 in units of 2^-15, as OpenCV's `cvtColor` rounds them. */
export function luma(red: number, green: number, blue: number): number {
  return (red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15
}

/** Rows of interleaved channels, 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA), as gray; transparency is dropped. */
export function toGray(samples: Uint8Array, channels: number): Gray {
  const gray = new Uint8Array(samples.length / channels)
  if (channels < 3) {
    for (let i = 0; i < gray.length; i++) gray[i] = samples[i * channels]
  } else {
    for (let i = 0, at = 0; i < gray.length; i++, at += channels) {
      gray[i] = luma(samples[at], samples[at + 1], samples[at + 2])
    }
  }
  return gray
}

const COLORFUL = 16 // levels between the channels
const COLORFUL_SHARE = 0.01

/** How many pixels of interleaved channels are in color. */
export function countColorful(samples: Uint8Array, channels: number): number {
  let found = 0
  if (channels < 3) return found
  for (let at = 0; at < samples.length; at += channels) {
    const [red, green, blue] = [samples[at], samples[at + 1], samples[at + 2]]
    if (Math.max(red, green, blue) - Math.min(red, green, blue) > COLORFUL) found++
  }
  return found
}

/** A warning if so many of the pixels are in color. */
export function colorWarnings(colorful: number, pixels: number): string[] {
  return colorful / pixels > COLORFUL_SHARE ? ['a color image, not a radiograph'] : []
}

/** The fewest bits of a detector's that hold a value. */
export function depthOf(largest: number): number {
  return [8, 10, 12, 14].find((bits) => largest < 1 << bits) ?? 16
}
