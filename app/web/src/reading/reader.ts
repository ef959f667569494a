// Radiographs from files: read in a worker, so that a hostile file can neither block the page nor keep memory.

import { PageError, type Radiograph } from '../types'
import type { Read, ReadRequest } from './reading.worker'

export interface ReadOptions {
  /** Accept DICOM files that say they are lateral, not of a chest, or for processing, with a warning. */
  anyView?: boolean
}

// As in src/chexvision/images/sources.py.
export const LARGEST_FILE = 2 ** 28
const MOST_SECONDS = 60

/**
 * Decode the bytes of a PNG, JPEG or DICOM file as `read_radiograph` of src/chexvision/images/reading.py does.
 *
 * Rejects with a `PageError`: it is none of these, damaged, or not a frontal radiograph of a chest. Its message names
 * no value of the file.
 */
export function readRadiograph(data: ArrayBuffer, options: ReadOptions = {}): Promise<Radiograph> {
  if (data.byteLength > LARGEST_FILE) {
    return Promise.reject(new PageError(`The file is larger than ${LARGEST_FILE >> 20} MiB.`))
  }
  const worker = new Worker(new URL('./reading.worker.ts', import.meta.url), { type: 'module' })
  return new Promise<Radiograph>((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new PageError(`The file could not be read within ${MOST_SECONDS} seconds.`)),
      MOST_SECONDS * 1000,
    )
    worker.onmessage = ({ data: read }: MessageEvent<Read>) => {
      clearTimeout(timer)
      if ('radiograph' in read) resolve(read.radiograph)
      else reject(new PageError(read.failed, read.anyViewHelps))
    }
    worker.onerror = (event) => {
      event.preventDefault()
      clearTimeout(timer)
      reject(new PageError('The file could not be read: the browser may have too little memory.'))
    }
    worker.postMessage({ data, anyView: options.anyView ?? false } satisfies ReadRequest)
  }).finally(() => worker.terminate())
}
