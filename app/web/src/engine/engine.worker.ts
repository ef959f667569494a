// One model in onnxruntime's WebAssembly build. The graph resizes, equalizes, classifies, calibrates and explains.

import { env, InferenceSession, Tensor } from 'onnxruntime-web/wasm'
import runtime from 'onnxruntime-web/ort-wasm-simd-threaded.mjs?url'
import wasm from 'onnxruntime-web/ort-wasm-simd-threaded.wasm?url'
import type { HeatMaps } from '../types'

export type ToWorker = { model: Uint8Array } | { pixels: Uint8Array; width: number; height: number }
export interface Computed {
  probabilities: number[]
  checks: number[]
  maps: HeatMaps | null
}
export type FromWorker = Computed | { failed: string }

// More threads than this gain nothing for one image of this size.
const MOST_THREADS = 4

env.wasm.wasmPaths = { mjs: new URL(runtime, import.meta.url).href, wasm: new URL(wasm, import.meta.url).href }
// Threads need shared memory, which browsers give to pages that are isolated from other origins.
env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1
env.logLevel = 'error'

let session: InferenceSession | null = null
const NOTHING: Computed = { probabilities: [], checks: [], maps: null }

async function start(model: Uint8Array): Promise<Computed> {
  session = await InferenceSession.create(model, { executionProviders: ['wasm'], graphOptimizationLevel: 'all' })
  return NOTHING
}

async function compute(pixels: Uint8Array, width: number, height: number): Promise<Computed> {
  const wanted = ['probabilities', 'checks', 'maps'].filter((name) => session!.outputNames.includes(name))
  const image = new Tensor('uint8', pixels, [1, height, width])
  const outputs = await session!.run({ image }, wanted)
  const { probabilities, checks, maps } = outputs
  const computed: Computed = {
    probabilities: Array.from(probabilities.data as Float32Array),
    checks: checks ? Array.from(checks.data as Float32Array) : [],
    maps: maps
      ? { values: (maps.data as Float32Array).slice(), height: maps.dims[2], width: maps.dims[3] }
      : null,
  }
  for (const tensor of Object.values(outputs)) tensor.dispose()
  return computed
}

// Questions are answered one at a time: the runtime has one state.
let last: Promise<void> = Promise.resolve()

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  last = last.then(async () => {
    try {
      const computed = 'model' in data ? await start(data.model) : await compute(data.pixels, data.width, data.height)
      self.postMessage(computed, { transfer: computed.maps ? [computed.maps.values.buffer] : [] })
    } catch (error) {
      // The runtime's own message names nodes of the graph; it is for the console.
      console.error(error)
      const failed =
        'model' in data
          ? 'The model could not be started in this browser: it may have too little memory.'
          : 'The model could not compute this image: the browser may have too little memory.'
      self.postMessage({ failed } satisfies FromWorker)
    }
  })
}
