// The only place where files become pixels, by the same rules as src/chexvision/images.

import { PageError, type Radiograph } from '../types'
import { decodeDicom } from './dicom/dicom'
import { isDicom } from './dicom/elements'
import { decodePng } from './png'

type Bytes = Uint8Array<ArrayBuffer>

const SMALLEST = 64 // pixels; findings cannot be seen in fewer
const LONGEST = 2 // times the shorter side; radiographs of chests have up to 1.4

/** The bytes of a PNG, JPEG or DICOM file as a radiograph, with warnings of its size, which models do not see. */
export async function decode(data: Bytes, anyView: boolean): Promise<Radiograph> {
  const radiograph = await decodeAny(data, anyView)
  const { width, height, warnings } = radiograph
  if (Math.min(width, height) < SMALLEST) warnings.push(`only ${width}×${height} pixels`)
  if (Math.max(width, height) > LONGEST * Math.min(width, height)) {
    warnings.push(`${width}×${height} pixels: not the shape of a chest radiograph`)
  }
  return radiograph
}

/** Decoders are fetched when they are needed. */
async function decodeAny(data: Bytes, anyView: boolean): Promise<Radiograph> {
  if (startsWith(data, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return decodePng(data)
  if (startsWith(data, [0xff, 0xd8, 0xff])) return (await import('./jpeg')).decodeJpeg(data)
  if (isDicom(data)) return decodeDicom(data, anyView)
  throw new PageError('This is not a PNG, JPEG or DICOM file.')
}

function startsWith(data: Bytes, signature: number[]): boolean {
  return signature.every((byte, i) => data[i] === byte)
}
