// A DICOM file to 8-bit gray, as src/chexvision/images/dicom.py. Nothing of a patient is read, returned or told.

import { PageError, type Radiograph } from '../../types'
import { type Gray, luma, toGray } from '../pixels'
import { checkElements, type Findings } from './checks'
import { type Bytes, type Elements, readElements, TAG } from './elements'
import { BASELINE, type FrameFormat, type Samples, storedValues } from './frame'
import { displayed } from './gray'

const MOST_PIXELS = 40_000_000 // detectors have 20 million
const MONOCHROME = ['MONOCHROME1', 'MONOCHROME2']
const RGB = ['RGB', 'YBR_RCT', 'YBR_ICT'] // the last two as JPEG 2000 decoders give them

/** 8-bit gray of a complete DICOM file; with `anyView` also of what is not a frontal radiograph of a chest. */
export async function decodeDicom(data: Bytes, anyView: boolean): Promise<Radiograph> {
  const file = await readElements(data)
  const { elements } = file
  const found = checkElements(elements)
  const frame = readFormat(elements, found)
  const kind = elements.text(TAG.photometric)
  if (!MONOCHROME.includes(kind)) found.refusals.push('its pixels are in color: a screenshot, not a radiograph')
  if (found.refusals.length && !anyView) {
    throw new PageError(`This DICOM file is not read: ${found.refusals.join('; ')}.`, true)
  }
  const stored = await storedValues(file, frame)
  const { pixels, notes } = MONOCHROME.includes(kind)
    ? displayed(grayOnly(stored, frame), frame, elements)
    : { pixels: grayOfColors(stored, kind, frame, elements, file.syntax), notes: ['colors made gray'] }
  return {
    pixels,
    width: frame.columns,
    height: frame.rows,
    notes: ['DICOM', ...notes, ...(areSquare(elements) ? [] : ['pixels that are not square, shown as if they were'])],
    warnings: [...found.refusals, ...found.warnings],
  }
}

function readFormat(elements: Elements, found: Findings): FrameFormat {
  const bitsAllocated = elements.short(TAG.bitsAllocated)
  const bitsStored = elements.short(TAG.bitsStored, bitsAllocated)
  const frames = elements.text(TAG.frames) || '1'
  const frame: FrameFormat = {
    rows: elements.short(TAG.rows),
    columns: elements.short(TAG.columns),
    samples: elements.short(TAG.samples, 1),
    bitsAllocated,
    bitsStored,
    highBit: elements.short(TAG.highBit, bitsStored - 1),
    signed: elements.short(TAG.signed, 0) === 1,
    frames: /^\d{1,7}$/.test(frames) ? Number(frames) : 0,
    planar: elements.short(TAG.planar, 0) === 1,
  }
  const { rows, columns, samples, highBit } = frame
  if (rows * columns > MOST_PIXELS) {
    throw new PageError(`The image has ${columns}×${rows} pixels, more than ${MOST_PIXELS.toLocaleString('en')}.`)
  }
  if (!(rows * columns)) throw new PageError('The image has no pixels.')
  if (![8, 16].includes(bitsAllocated) || !(bitsStored >= 2 && bitsStored <= highBit + 1 && highBit < bitsAllocated)) {
    throw new PageError('The pixels of the DICOM file do not have 8 to 16 bits.')
  }
  if (!(samples === 1 || (samples === 3 && bitsAllocated === 8 && bitsStored === 8))) {
    throw new PageError('The pixels of the DICOM file are neither gray nor colors of 8 bits.')
  }
  if (frame.frames < 1) throw new PageError('The DICOM file is damaged: its number of images is not a number.')
  if (frame.frames > 1) found.refusals.push('it contains several images (multi-frame); only the first would be read')
  return frame
}

function grayOnly(stored: Samples, frame: FrameFormat): Samples {
  if (frame.samples !== 1) throw new PageError('The DICOM file is damaged: a gray image of several colors.')
  return stored
}

function grayOfColors(stored: Samples, kind: string, frame: FrameFormat, elements: Elements, syntax: string): Gray {
  if (kind === 'PALETTE COLOR' && frame.samples === 1) return grayOfPalette(stored, elements)
  if (stored instanceof Uint8Array && frame.samples === 3) {
    if (RGB.includes(kind) || BASELINE.includes(syntax)) return toGray(stored, 3)
    if (kind.startsWith('YBR_FULL')) {
      return Uint8Array.from({ length: stored.length / 3 }, (_, i) => stored[3 * i]) // luminance
    }
  }
  throw new PageError('The kind of colors of this DICOM file is not one that is read here.')
}

function grayOfPalette(stored: Samples, elements: Elements): Gray {
  const tables = [
    [TAG.redTable, TAG.redData],
    [TAG.greenTable, TAG.greenData],
    [TAG.blueTable, TAG.blueData],
  ].map(([descriptor, data]) => {
    const [count, first = 0, bits = 0] = elements.shorts(descriptor)
    const entries = bits === 16 ? elements.shorts(data) : []
    const length = count || 1 << 16
    if (entries.length < length) throw new PageError('The DICOM file is damaged: its palette is not complete.')
    return Uint8Array.from({ length: 1 << 16 }, (_, i) => entries[Math.min(Math.max(i - first, 0), length - 1)] >> 8)
  })
  const [red, green, blue] = tables
  const pixels = new Uint8Array(stored.length)
  for (let i = 0; i < pixels.length; i++) pixels[i] = luma(red[stored[i]], green[stored[i]], blue[stored[i]])
  return pixels
}

/** Whether pixels are as high as wide, by PixelAspectRatio. Models see every image resized to a square anyway. */
function areSquare(elements: Elements): boolean {
  try {
    const ratio = elements.decimals(TAG.aspect)
    return ratio.length !== 2 || ratio[0] === ratio[1]
  } catch {
    return true
  }
}
