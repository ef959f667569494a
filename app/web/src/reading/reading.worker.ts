// Reads one file and ends.

import { PageError, type Radiograph } from '../types'
import { decode } from './decode'

export interface ReadRequest {
  data: ArrayBuffer
  anyView: boolean
}
export type Read = { radiograph: Radiograph } | { failed: string; anyViewHelps: boolean }

self.onmessage = async ({ data }: MessageEvent<ReadRequest>) => {
  try {
    const radiograph = await decode(new Uint8Array(data.data), data.anyView)
    self.postMessage({ radiograph } satisfies Read, { transfer: [radiograph.pixels.buffer] })
  } catch (error) {
    // Messages of decoders may quote the file, which may hold a patient's name: they are not shown.
    const known = error instanceof PageError
    self.postMessage({
      failed: known ? error.message : 'The file is damaged: it could not be decoded.',
      anyViewHelps: known && error.anyViewHelps,
    } satisfies Read)
  }
}
