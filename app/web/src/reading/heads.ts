// What a JPEG announces, and EXIF's orientation, as src/chexvision/images/image_heads.py reads them.

import { PageError } from '../types'
import type { Gray } from './pixels'

type Bytes = Uint8Array<ArrayBuffer>

// Start of frame of all kinds but differential ones; the last is JPEG-LS.
const FRAMES = [0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf, 0xf7]
const PROGRESSIVE = [0xc2, 0xc6, 0xca, 0xce]
const MOST_SCANS = 100 // progressive images have ten; each is a pass over the whole image
const ORIENTATION = 0x0112 // EXIF 2.3, 4.6.4

export interface JpegHead {
  width: number
  height: number
  channels: number
  bits: number
  orientation: number
  /** Whether all of it is decoded at once, which takes three times the memory. */
  progressive: boolean
}

/** Read the segments of a JPEG, or of a JPEG-LS, before its first scan. */
export function readJpegHead(data: Bytes): JpegHead {
  if (!ends(data)) throw new PageError('The JPEG file is cut short.')
  if (scansOf(data) > MOST_SCANS) throw new PageError(`The JPEG file has more than ${MOST_SCANS} scans.`)
  const view = new DataView(data.buffer, data.byteOffset, data.length)
  let orientation = 1
  for (let at = 2; at + 10 <= data.length && data[at] === 0xff; ) {
    const kind = data[at + 1]
    const length = view.getUint16(at + 2)
    if (FRAMES.includes(kind)) {
      const [height, width] = [view.getUint16(at + 5), view.getUint16(at + 7)]
      const progressive = PROGRESSIVE.includes(kind)
      return { width, height, channels: data[at + 9], bits: data[at + 4], orientation, progressive }
    }
    const start = String.fromCharCode(...data.subarray(at + 4, at + 10))
    if (kind === 0xe1 && start === 'Exif\0\0') orientation = orientationOf(data.subarray(at + 10, at + 2 + length))
    // A marker may be padded with 0xFF; all before the frame header have a length.
    at += kind === 0xff ? 1 : 2 + length
  }
  throw new PageError('The JPEG file is damaged: it has no frame header.')
}

function ends(data: Bytes): boolean {
  for (let at = data.length - 2; at >= Math.max(0, data.length - 64); at--) {
    if (data[at] === 0xff && data[at + 1] === 0xd9) return true
  }
  return false
}

function scansOf(data: Bytes): number {
  let scans = 0
  for (let at = data.indexOf(0xff); at >= 0; at = data.indexOf(0xff, at + 1)) if (data[at + 1] === 0xda) scans++
  return scans
}

/** The orientation in an EXIF block, 1 to 8; 1 (as stored) where it has none or cannot be read. */
export function orientationOf(tiff: Bytes): number {
  const order = String.fromCharCode(...tiff.subarray(0, 2))
  if (order !== 'II' && order !== 'MM') return 1
  const little = order === 'II'
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.length)
  try {
    const at = view.getUint32(4, little)
    const entries = Math.min(view.getUint16(at, little), 1000)
    for (let entry = at + 2; entry < at + 2 + 12 * entries; entry += 12) {
      if (view.getUint16(entry, little) === ORIENTATION && view.getUint16(entry + 2, little) === 3) {
        const value = view.getUint16(entry + 8, little)
        return value >= 1 && value <= 8 ? value : 1
      }
      view.getUint16(entry + 10, little) // the entry is complete
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
  }
  return 1
}

/** EXIF 2.3, 4.6.4: 2 to 4 are flips, 5 to 8 exchange rows and columns first. */
export function turned(
  pixels: Gray,
  width: number,
  height: number,
  orientation: number,
): { pixels: Gray; width: number; height: number; notes: string[] } {
  if (orientation === 1) return { pixels, width, height, notes: [] }
  const exchanged = orientation >= 5
  const [columns, rows] = exchanged ? [height, width] : [width, height]
  const flipRows = [3, 4, 7, 8].includes(orientation)
  const flipColumns = [2, 3, 6, 7].includes(orientation)
  const into = new Uint8Array(pixels.length)
  for (let y = 0, i = 0; y < rows; y++) {
    const row = flipRows ? rows - 1 - y : y
    for (let x = 0; x < columns; x++) {
      const column = flipColumns ? columns - 1 - x : x
      into[i++] = exchanged ? pixels[column * width + row] : pixels[row * width + column]
    }
  }
  return { pixels: into, width: columns, height: rows, notes: ['turned as its EXIF orientation says'] }
}
