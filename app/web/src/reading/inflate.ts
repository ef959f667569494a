import { PageError } from '../types'

/**
 * Inflate `data` into at most `most` bytes, whatever it says that it holds.
 *
 * Rejects with a `PageError`: it is damaged, or more.
 */
export async function inflate(
  data: Uint8Array<ArrayBuffer>[],
  format: 'deflate' | 'deflate-raw',
  most: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = new Blob(data).stream().pipeThrough(new DecompressionStream(format)).getReader()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      length += read.value.length
      if (length > most) throw new PageError('The file is damaged: it holds more than it announces.')
      chunks.push(read.value)
    }
  } catch (error) {
    if (error instanceof PageError) throw error
    throw new PageError('The file is damaged: its compressed data end too early or are not valid.')
  } finally {
    reader.cancel().catch(() => {})
  }
  const into = new Uint8Array(length)
  chunks.reduce((at, chunk) => (into.set(chunk, at), at + chunk.length), 0)
  return into
}
