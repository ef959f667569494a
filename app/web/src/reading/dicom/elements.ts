// The elements of a DICOM file that the reading of a radiograph needs; nothing else of the file is looked at.
//
// The same parser as src/chexvision/images/dicom_elements.py (PS3.5, sections 7 and 10): values of elements that are
// not allowed are skipped unread, and the work is bounded.

import { PageError } from '../../types'
import { inflate } from '../inflate'

export type Bytes = Uint8Array<ArrayBuffer>

export const SYNTAX = {
  implicit: '1.2.840.10008.1.2',
  explicit: '1.2.840.10008.1.2.1',
  big: '1.2.840.10008.1.2.2',
  deflated: '1.2.840.10008.1.2.1.99',
}

export const TAG = {
  modality: 0x00080060,
  intent: 0x00080068,
  codeValue: 0x00080100,
  bodyPart: 0x00180015,
  viewPosition: 0x00185101,
  patientOrientation: 0x00200020,
  samples: 0x00280002,
  photometric: 0x00280004,
  planar: 0x00280006,
  frames: 0x00280008,
  rows: 0x00280010,
  columns: 0x00280011,
  aspect: 0x00280034,
  bitsAllocated: 0x00280100,
  bitsStored: 0x00280101,
  highBit: 0x00280102,
  signed: 0x00280103,
  padding: 0x00280120,
  paddingLimit: 0x00280121,
  burnedIn: 0x00280301,
  windowCenter: 0x00281050,
  windowWidth: 0x00281051,
  intercept: 0x00281052,
  slope: 0x00281053,
  voiFunction: 0x00281056,
  redTable: 0x00281101,
  greenTable: 0x00281102,
  blueTable: 0x00281103,
  redData: 0x00281201,
  greenData: 0x00281202,
  blueData: 0x00281203,
  modalityLut: 0x00283000,
  lutDescriptor: 0x00283002,
  lutData: 0x00283006,
  voiLut: 0x00283010,
  viewCodes: 0x00540220,
  presentationLut: 0x20500020,
}

const SEQUENCES = new Set([TAG.modalityLut, TAG.voiLut, TAG.viewCodes])
const ALLOWED = new Set(Object.values(TAG))

const PIXELS = 0x7fe00010
const OTHER_PIXELS = [0x7fe00008, 0x7fe00009] // float and double
const ITEM = 0xfffee000
const END_OF_ITEM = 0xfffee00d
const END_OF_SEQUENCE = 0xfffee0dd
const SYNTAX_TAG = 0x00020010
const UNDEFINED = 0xffffffff
const LONG = new Set(['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV'])
const MOST_ELEMENTS = 200_000 // radiographs have hundreds
const LONGEST_VALUE = 2 ** 18 // a table of 65,536 entries has 2¹⁷ bytes
const DEEPEST = 16
const LARGEST_INFLATED = 2 ** 28

const DAMAGED = 'The DICOM file is damaged'

/** Values of allowed elements of a data set, as bytes; of sequences, their first item. */
export class Elements {
  readonly values = new Map<number, Bytes>()
  readonly items = new Map<number, Elements>()

  constructor(private readonly big: boolean) {}

  /** The values of a text in capitals, without blanks; empty where it is missing. */
  texts(tag: number): string[] {
    const text = stripped(ascii(this.values.get(tag)))
    return text ? text.split('\\').map((part) => stripped(part).toUpperCase()) : []
  }

  /** The first value, or an empty text. */
  text(tag: number): string {
    return this.texts(tag)[0] ?? ''
  }

  /** The values of a decimal string. */
  decimals(tag: number): number[] {
    return this.texts(tag).map((text) => {
      // Number is more tolerant: an empty text is 0.
      if (!/^[+-]?(\d{1,32}\.?\d{0,32}|\.\d{1,32})(E[+-]?\d{1,3})?$/.test(text)) {
        throw new PageError(`${DAMAGED}: element ${nameOf(tag)} is not a number.`)
      }
      return Number(text)
    })
  }

  /** The values of unsigned 16-bit integers. */
  shorts(tag: number): number[] {
    const data = this.values.get(tag) ?? new Uint8Array(0)
    const view = new DataView(data.buffer, data.byteOffset, data.length)
    return Array.from({ length: data.length >> 1 }, (_, i) => view.getUint16(2 * i, !this.big))
  }

  /** The first of them. */
  short(tag: number, otherwise?: number): number {
    const found = this.shorts(tag)[0] ?? otherwise
    if (found === undefined) throw new PageError(`${DAMAGED}: it has no element ${nameOf(tag)}.`)
    return found
  }
}

/** A tag as the standard writes it, for instance (0028,0010). */
export function nameOf(tag: number): string {
  const hex = tag.toString(16).padStart(8, '0').toUpperCase()
  return `(${hex.slice(0, 4)},${hex.slice(4)})`
}

function ascii(data: Bytes | undefined): string {
  return data ? new TextDecoder('latin1').decode(data) : ''
}

function stripped(text: string): string {
  return text.replace(/^[ \0]+|[ \0]+$/g, '')
}

/** What is needed of a file. */
export interface DicomFile {
  /** The transfer syntax; of files that do not name it, the one they are written in. */
  syntax: string
  elements: Elements
  /** The value of the pixel data; null where it consists of `fragments`. */
  pixels: Bytes | null
  /** The encoded parts of compressed pixel data, without the table of offsets. */
  fragments: Bytes[]
}

/** Whether a file starts as DICOM files do, with or without their preamble. */
export function isDicom(data: Bytes): boolean {
  if (ascii(data.subarray(128, 132)) === 'DICM') return true
  if (data.length < 10) return false
  const group = data[0] + 256 * data[1]
  const element = data[2] + 256 * data[3]
  const head = ['UL', 'OB', 'UI', 'CS'].includes(ascii(data.subarray(4, 6))) || (data[6] === 0 && data[7] === 0)
  return head && ((group === 2 && element <= 0x10) || (group === 8 && element <= 0x16))
}

/** Find the allowed elements and the pixel data of a file. Rejects with a `PageError` that has nothing of the file. */
export async function readElements(file: Bytes): Promise<DicomFile> {
  try {
    return await read(file)
  } catch (error) {
    if (error instanceof RangeError) throw new PageError('The DICOM file is cut short.')
    throw error
  }
}

async function read(file: Bytes): Promise<DicomFile> {
  let data = file
  let { syntax, at } = readMeta(data, ascii(data.subarray(128, 132)) === 'DICM' ? 132 : 0)
  if (syntax === SYNTAX.deflated) {
    data = await inflateDataSet(data.subarray(at))
    at = 0
  }
  const explicit = /^[A-Z]{2}$/.test(ascii(data.subarray(at + 4, at + 6))) // whatever the file says of itself
  const big = syntax ? syntax === SYNTAX.big : data[at] === 0
  const reader = new Reader(data, at, explicit, big)
  const elements = new Elements(big)
  const known = syntax || (big ? SYNTAX.big : explicit ? SYNTAX.explicit : SYNTAX.implicit)
  while (reader.at < data.length) {
    const head = reader.head()
    if (head.tag === PIXELS) {
      if (head.length === UNDEFINED) return { syntax: known, elements, pixels: null, fragments: reader.fragments() }
      return { syntax: known, elements, pixels: reader.take(head.length), fragments: [] }
    }
    if (OTHER_PIXELS.includes(head.tag)) {
      throw new PageError('The pixels of the DICOM file are floating-point numbers, not those of a radiograph.')
    }
    reader.keep(head, elements)
  }
  throw new PageError('This DICOM file contains no image.')
}

/** PS3.5, A.5: the compressed data set may be followed by a zero, which makes its length even. */
async function inflateDataSet(data: Bytes): Promise<Bytes> {
  const guess = 4 * data.length
  try {
    return await inflate([data], 'deflate-raw', LARGEST_INFLATED, guess)
  } catch (error) {
    if (data[data.length - 1] !== 0) throw error
    return inflate([data.subarray(0, -1)], 'deflate-raw', LARGEST_INFLATED, guess)
  }
}

/** The transfer syntax, empty where it is missing, and where the data set starts. */
function readMeta(data: Bytes, at: number): { syntax: string; at: number } {
  const reader = new Reader(data, at, true, false)
  let syntax = ''
  while (data[reader.at] === 2 && data[reader.at + 1] === 0) {
    const head = reader.head()
    const value = reader.take(head.length)
    if (head.tag === SYNTAX_TAG) syntax = stripped(ascii(value.subarray(0, 64)))
  }
  return { syntax, at: reader.at }
}

interface Head {
  tag: number
  kind: string // the value representation; empty where it is implicit
  length: number
}

/** Reads elements one after the other, skipping most, and counts them. */
class Reader {
  private readonly view: DataView
  private left = MOST_ELEMENTS

  constructor(
    private readonly data: Bytes,
    public at: number,
    private explicit: boolean,
    private readonly big: boolean,
  ) {
    this.view = new DataView(data.buffer, data.byteOffset, data.length)
  }

  /** The next element's head; `at` is then at its value. */
  head(): Head {
    if (--this.left < 0) throw new PageError(`The DICOM file has more than ${MOST_ELEMENTS} elements: it is not a radiograph.`)
    const group = this.view.getUint16(this.at, !this.big)
    const tag = group * 65536 + this.view.getUint16(this.at + 2, !this.big)
    let kind = ''
    let lengthAt = this.at + 4
    if (this.explicit && group !== 0xfffe) {
      kind = ascii(this.data.subarray(this.at + 4, this.at + 6))
      if (!LONG.has(kind)) {
        const length = this.view.getUint16(this.at + 6, !this.big)
        this.at += 8
        return { tag, kind, length }
      }
      lengthAt = this.at + 8
    }
    const length = this.view.getUint32(lengthAt, !this.big)
    this.at = lengthAt + 4
    return { tag, kind, length }
  }

  /** The value of an element of known length. */
  take(length: number): Bytes {
    if (length > this.data.length - this.at) throw new RangeError()
    this.at += length
    return this.data.subarray(this.at - length, this.at)
  }

  /** Pass an element, and put it into `elements` if it is allowed. */
  keep(head: Head, elements: Elements, depth = 0): void {
    if (SEQUENCES.has(head.tag) && depth === 0) {
      const first = elements.items.get(head.tag) ?? new Elements(this.big)
      elements.items.set(head.tag, first)
      this.sequence(head, first, depth)
    } else if (head.length === UNDEFINED) {
      this.sequence(head, null, depth)
    } else if (ALLOWED.has(head.tag)) {
      const value = this.take(head.length)
      if (head.length > LONGEST_VALUE) throw new PageError(`${DAMAGED}: element ${nameOf(head.tag)} is too long.`)
      elements.values.set(head.tag, value)
    } else {
      this.take(head.length)
    }
  }

  /** Pass a sequence; the allowed elements of its first item go to `first`. */
  private sequence(sequence: Head, first: Elements | null, depth: number): void {
    if (depth === DEEPEST) throw new PageError(`${DAMAGED}: sequences are nested too deeply.`)
    const explicit = this.explicit
    if (sequence.kind === 'UN' && sequence.length === UNDEFINED) this.explicit = false // PS3.5, section 6.2.2
    const stop = sequence.length === UNDEFINED ? this.data.length : this.at + sequence.length
    if (stop > this.data.length) throw new RangeError()
    let into = first
    while (this.at < stop) {
      const item = this.head()
      if (item.tag === END_OF_SEQUENCE) break
      if (item.tag !== ITEM) throw new PageError(`${DAMAGED}: a sequence has something else than items.`)
      if (into === null && item.length !== UNDEFINED) this.take(item.length)
      else this.item(item, into ?? new Elements(this.big), depth)
      into = null
    }
    this.explicit = explicit
  }

  private item(item: Head, elements: Elements, depth: number): void {
    const stop = item.length === UNDEFINED ? this.data.length : this.at + item.length
    while (this.at < stop) {
      const head = this.head()
      if (head.tag === END_OF_ITEM) return
      this.keep(head, elements, depth + 1)
    }
  }

  /** The parts of encapsulated pixel data after the table of offsets; a missing end is accepted. */
  fragments(): Bytes[] {
    const found: Bytes[] = []
    while (this.at < this.data.length) {
      const head = this.head()
      if (head.tag === END_OF_SEQUENCE) break
      if (head.tag !== ITEM) throw new PageError(`${DAMAGED}: its compressed pixels have no parts.`)
      found.push(this.take(head.length))
    }
    return found.slice(1)
  }
}
