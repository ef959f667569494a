// What other pages, and tests, import: `const { loadEngine, readRadiograph } = await import('…/chexvision.js')`.

export { loadConfig, loadEngine, loadInfo } from './engine/engine'
export { readRadiograph } from './reading/reader'
export { PageError } from './types'
export type * from './types'
