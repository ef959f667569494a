// A published model in the browser: fetched, checked, and computed in a worker of its own.

import { sha256 } from '../sha256'
import {
  type Answer,
  type Engine,
  type ModelInfo,
  type OnProgress,
  type PageConfig,
  type Radiograph,
  PageError,
} from '../types'
import type { Computed, FromWorker, ToWorker } from './engine.worker'

const CONFIG = 'models.json'
const INFO = 'onnx/model.json'
const MODEL = 'onnx/model.onnx'
const CACHE = 'chexvision-models'

/** The models that the page offers. Rejects with a `PageError`. */
export async function loadConfig(): Promise<PageConfig> {
  const config = await getJson<PageConfig>(new URL(CONFIG, document.baseURI))
  if (!config?.models?.length) throw new PageError(`${CONFIG} names no model.`)
  return config
}

/** What the files of a model say about it. Rejects with a `PageError`: they are not an export that this page reads. */
export async function loadInfo(folder: string): Promise<ModelInfo> {
  const info = await getJson<ModelInfo>(below(folder, INFO))
  if (info?.format !== 1) {
    throw new PageError(`${INFO} has format ${String(info?.format)}; this page reads format 1. Use a newer page.`)
  }
  if (!info.files?.[MODEL] || !info.label_space?.findings || !Array.isArray(info.checks)) {
    throw new PageError(`${INFO} of this model is not complete. Export the model again.`)
  }
  return info
}

/** Fetch the exported model and start it. Rejects with a `PageError`: it cannot be fetched, or is not what `info` says. */
export async function loadEngine(folder: string, info: ModelInfo, onProgress: OnProgress = () => {}): Promise<Engine> {
  const model = await fetchModel(below(folder, MODEL), info.files[MODEL], onProgress)
  const engine = new EngineWorker(info)
  await engine.start(model)
  return engine
}

type Bytes = Uint8Array<ArrayBuffer>
type Expected = ModelInfo['files'][string]

/** The model's bytes, from the last visit where they are still the same. */
async function fetchModel(address: URL, expected: Expected, onProgress: OnProgress): Promise<Bytes> {
  const kept = await keptModel(address, expected)
  if (kept) {
    onProgress(expected.bytes, expected.bytes)
    return kept
  }
  const model = await download(address, expected.bytes, onProgress)
  if (!(await isExpected(model, expected))) throw damaged()
  await keep(address, expected, model)
  return model
}

function keyOf(address: URL, expected: Expected): URL {
  return new URL(`?sha256=${expected.sha256}`, address)
}

async function keptModel(address: URL, expected: Expected): Promise<Bytes | null> {
  try {
    const response = await (await caches.open(CACHE)).match(keyOf(address, expected))
    const model = response ? new Uint8Array(await response.arrayBuffer()) : null
    return model && (await isExpected(model, expected)) ? model : null
  } catch {
    return null // browsers have no storage in some private windows, and none for pages that are not secure
  }
}

/** Keep a model in place of its former versions. The page works without, so a full storage is no failure. */
async function keep(address: URL, expected: Expected, model: Bytes): Promise<void> {
  try {
    const cache = await caches.open(CACHE)
    await cache.delete(address, { ignoreSearch: true })
    await cache.put(keyOf(address, expected), new Response(model))
  } catch {
    return
  }
}

function below(folder: string, path: string): URL {
  return new URL(path, new URL(`${folder.replace(/\/*$/, '')}/`, document.baseURI))
}

async function getJson<T>(address: URL): Promise<T> {
  const response = await get(address)
  try {
    return (await response.json()) as T
  } catch {
    throw new PageError(`${address.pathname} is damaged. Export the model again.`)
  }
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

async function download(address: URL, bytes: number, onProgress: OnProgress): Promise<Bytes> {
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

async function isExpected(model: Bytes, expected: Expected): Promise<boolean> {
  if (model.length !== expected.bytes) return false
  // Over plain HTTP from another machine only the size can be checked.
  const found = await sha256(model)
  return found === null || found === expected.sha256
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

  async start(model: Bytes): Promise<void> {
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
