// A published model in the browser: fetched, checked, and computed in a worker of its own.

import { type Answer, type Engine, type ModelInfo, type OnProgress, PageError, type Radiograph } from '../types'
import type { Computed, FromWorker, ToWorker } from './engine.worker'

const INFO = 'onnx/model.json'
const MODEL = 'onnx/model.onnx'

/**
 * Fetch the exported model below `folder` (a path or an address) and start it.
 *
 * Rejects with a `PageError`: it cannot be fetched, is not an export that this page reads, or is damaged.
 */
export async function loadEngine(folder: string, onProgress: OnProgress = () => {}): Promise<Engine> {
  const base = new URL(folder.endsWith('/') ? folder : `${folder}/`, document.baseURI)
  const info = readInfo(await (await get(new URL(INFO, base))).text())
  const expected = info.files[MODEL]
  const model = await download(new URL(MODEL, base), expected.bytes, onProgress)
  await verify(model, expected)
  const worker = new EngineWorker(info)
  await worker.start(model)
  return worker
}

function readInfo(text: string): ModelInfo {
  let info: ModelInfo
  try {
    info = JSON.parse(text) as ModelInfo
  } catch {
    throw new PageError(`${INFO} of this model is damaged. Export the model again.`)
  }
  if (info?.format !== 1) {
    throw new PageError(`${INFO} has format ${String(info?.format)}; this page reads format 1. Use a newer page.`)
  }
  if (!info.files?.[MODEL] || !info.label_space?.findings || !Array.isArray(info.checks)) {
    throw new PageError(`${INFO} of this model is not complete. Export the model again.`)
  }
  return info
}

async function get(address: URL): Promise<Response> {
  let response: Response
  try {
    response = await fetch(address)
  } catch {
    throw new PageError(`${address.pathname} cannot be fetched. Check the connection and load the page again.`)
  }
  if (!response.ok) throw new PageError(`${address.pathname} cannot be fetched: the server answers ${response.status}.`)
  return response
}

async function download(
  address: URL,
  bytes: number,
  onProgress: OnProgress,
): Promise<Uint8Array<ArrayBuffer>> {
  const response = await get(address)
  const model = new Uint8Array(bytes)
  let loaded = 0
  onProgress(loaded, bytes)
  const reader = response.body!.getReader()
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      if (loaded + read.value.length > bytes) throw damaged()
      model.set(read.value, loaded)
      loaded += read.value.length
      onProgress(loaded, bytes)
    }
  } catch (error) {
    if (error instanceof PageError) throw error
    throw new PageError('The connection broke while the model was fetched. Load the page again.')
  } finally {
    reader.cancel().catch(() => {})
  }
  if (loaded !== bytes) throw damaged()
  return model
}

function damaged(): PageError {
  return new PageError(`${MODEL} is not the file that ${INFO} describes. Load the page again, or export the model again.`)
}

async function verify(model: Uint8Array<ArrayBuffer>, expected: { sha256: string }): Promise<void> {
  // Browsers have no `crypto.subtle` for pages over plain HTTP from another machine; there only the size is checked.
  if (!crypto.subtle) return
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', model))
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
  if (sha256 !== expected.sha256) throw damaged()
}

class EngineWorker implements Engine {
  private readonly worker = new Worker(new URL('./engine.worker.ts', import.meta.url), { type: 'module' })
  private readonly waiting: { resolve: (of: Computed) => void; reject: (error: PageError) => void }[] = []
  private ended: PageError | null = null

  constructor(readonly info: ModelInfo) {
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      const question = this.waiting.shift()
      if ('failed' in data) question?.reject(new PageError(data.failed))
      else question?.resolve(data)
    }
    this.worker.onerror = (event) => {
      event.preventDefault()
      this.end(new PageError('The model stopped working, perhaps for want of memory. Load the page again.'))
    }
  }

  async start(model: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await this.ask({ model }, [model.buffer])
    } catch (error) {
      this.close()
      throw error
    }
  }

  async answer(image: Radiograph): Promise<Answer> {
    const started = performance.now()
    const { pixels, width, height } = image
    const computed = await this.ask({ pixels, width, height })
    const outputs = this.info.label_space.findings.length + 1
    const { probabilities, checks, maps } = computed
    if (probabilities.length !== outputs || !probabilities.every(Number.isFinite)) {
      throw new PageError('The model computed something that is not a probability for this image.')
    }
    return {
      probabilities,
      maps,
      warnings: this.info.checks.filter((check, i) => !(checks[i] <= check.limit)).map((check) => check.message),
      milliseconds: performance.now() - started,
    }
  }

  close(): void {
    this.end(new PageError('This model was closed.'))
  }

  private end(reason: PageError): void {
    this.worker.terminate()
    this.ended = reason
    for (const question of this.waiting.splice(0)) question.reject(reason)
  }

  private ask(question: ToWorker, transfer: Transferable[] = []): Promise<Computed> {
    if (this.ended) return Promise.reject(this.ended)
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject })
      this.worker.postMessage(question, transfer)
    })
  }
}
