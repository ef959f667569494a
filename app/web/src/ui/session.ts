// The state of the page: images, models, what is selected; and the one loop that reads, loads and computes.

import { sha256 } from '../sha256'
import { loadConfig, loadEngine, loadInfo } from '../engine/engine'
import { LARGEST_FILE, readRadiograph } from '../reading/reader'
import { type Answer, type Engine, type ModelEntry, type ModelInfo, PageError, type Radiograph } from '../types'

export const MOST_IMAGES = 20

export interface Model {
  entry: ModelEntry
  info: ModelInfo | null
  engine: Engine | null
  progress: { loaded: number; total: number } | null
  error: string | null
}

export interface Failure {
  message: string
  anyViewHelps: boolean
}

export interface Item {
  id: number
  file: File
  sha256: string | null
  anyView: boolean
  radiograph: Radiograph | null
  failure: Failure | null
  answers: Map<Model, Answer>
  errors: Map<Model, string>
}

export class Session {
  models: Model[] = []
  items: Item[] = []
  active: Item | null = null
  model: Model | null = null
  second: Model | null = null
  /** Name of the output whose map is shown. */
  selected: string | null = null
  /** A problem of the page as a whole. */
  problem: string | null = null
  /** The last event, for people who listen to the page. */
  announcement = ''

  private working = false
  private nextId = 0

  constructor(private readonly changed: () => void) {}

  async start(): Promise<void> {
    try {
      const { models } = await loadConfig()
      this.models = models.map((entry) => ({ entry, info: null, engine: null, progress: null, error: null }))
    } catch (error) {
      this.problem = sentence(error)
      this.changed()
      return
    }
    this.model = this.models[0]
    this.changed()
    await Promise.all(this.models.map((model) => this.loadInfo(model)))
  }

  add(files: Iterable<File>): void {
    const given = [...files]
    const room = MOST_IMAGES - this.items.length
    this.problem =
      given.length > room
        ? `At most ${MOST_IMAGES} images at a time: ${given.length - room} were left out. Remove some, or use ` +
          '“chexvision predict” for folders.'
        : null
    const added = given.slice(0, room).map((file) => this.itemOf(file))
    this.items = [...this.items, ...added]
    if (added.length) this.active = added[0]
    this.changed()
    void this.work()
  }

  remove(item: Item): void {
    const at = this.items.indexOf(item)
    this.items = this.items.filter((one) => one !== item)
    if (this.active === item) this.active = this.items[Math.min(at, this.items.length - 1)] ?? null
    this.announcement = `${item.file.name} was removed.`
    this.changed()
  }

  activate(item: Item): void {
    this.active = item
    this.changed()
    void this.work()
  }

  select(output: string): void {
    this.selected = output
    this.changed()
  }

  choose(model: Model, second: Model | null): void {
    this.model = model
    this.second = second === model ? null : second
    this.release()
    this.changed()
    void this.work()
  }

  /** Read a file again that was refused because of what it shows. */
  acceptAnyView(item: Item): void {
    item.anyView = true
    item.failure = null
    this.changed()
    void this.work()
  }

  retry(model: Model): void {
    model.error = null
    this.changed()
    if (!model.info) void this.loadInfo(model)
    void this.work()
  }

  /** Whether it is known what the models are: what is shown before would move then. */
  get started(): boolean {
    return this.problem !== null || (this.models.length > 0 && this.models.every((model) => model.info || model.error))
  }

  /** The models that answer now. */
  get shown(): Model[] {
    return [this.model, this.second].filter((model) => model !== null)
  }

  /** Free the memory of models that answer no more; browsers keep their files. */
  private release(): void {
    for (const model of this.models) {
      if (this.shown.includes(model)) continue
      model.engine?.close()
      model.engine = null
    }
  }

  private itemOf(file: File): Item {
    return {
      id: this.nextId++,
      file,
      sha256: null,
      anyView: false,
      radiograph: null,
      failure: null,
      answers: new Map(),
      errors: new Map(),
    }
  }

  private async loadInfo(model: Model): Promise<void> {
    try {
      model.info = await loadInfo(model.entry.folder)
    } catch (error) {
      model.error = sentence(error)
    }
    this.changed()
    void this.work()
  }

  private async work(): Promise<void> {
    if (this.working) return
    this.working = true
    for (let step = this.next(); step; step = this.next()) {
      await step()
      this.changed()
    }
    this.working = false
  }

  /** What is to be done next; the image on the screen comes first. */
  private next(): (() => Promise<void>) | null {
    const order = [...this.items].sort((a, b) => Number(b === this.active) - Number(a === this.active))
    for (const item of order) {
      if (item.failure) continue
      if (!item.radiograph) return () => this.read(item)
      for (const model of this.shown) {
        if (!model.info || model.error || item.answers.has(model) || item.errors.has(model)) continue
        return model.engine ? () => this.answer(item, model) : () => this.load(model)
      }
    }
    return null
  }

  private async read(item: Item): Promise<void> {
    try {
      if (item.file.size > LARGEST_FILE) throw new PageError(`The file is larger than ${LARGEST_FILE >> 20} MiB.`)
      const bytes = await item.file.arrayBuffer()
      item.sha256 ??= await sha256(bytes)
      item.radiograph = await readRadiograph(bytes, { anyView: item.anyView })
    } catch (error) {
      const anyViewHelps = error instanceof PageError && error.anyViewHelps
      item.failure = { message: sentence(error), anyViewHelps }
      this.announcement = `${item.file.name} could not be used: ${item.failure.message}`
    }
  }

  private async load(model: Model): Promise<void> {
    model.progress = { loaded: 0, total: 0 }
    this.announcement = `Downloading ${model.entry.name}.`
    this.changed()
    try {
      model.engine = await loadEngine(model.entry.folder, model.info!, (loaded, total) => {
        const before = percentOf(model.progress)
        model.progress = { loaded, total }
        if (percentOf(model.progress) !== before) this.changed()
      })
      this.announcement = `${model.entry.name} is ready.`
    } catch (error) {
      model.error = sentence(error)
      this.announcement = model.error
    }
    model.progress = null
    this.release()
  }

  private async answer(item: Item, model: Model): Promise<void> {
    const engine = model.engine!
    try {
      const answer = await engine.answer(item.radiograph!)
      item.answers.set(model, answer)
      const warnings = [...item.radiograph!.warnings, ...answer.warnings]
      this.announcement = [`${item.file.name} is ready.`, ...warnings].join(' ')
    } catch (error) {
      if (model.engine !== engine) return // it was released meanwhile
      item.errors.set(model, sentence(error))
      this.announcement = `${item.file.name}: ${sentence(error)}`
    }
  }
}

/** An error as a sentence for the reader. */
export function sentence(error: unknown): string {
  return error instanceof PageError ? error.message : 'Something unexpected went wrong. Reload the page.'
}

export function percentOf(progress: Model['progress']): number {
  return progress && progress.total > 0 ? Math.floor((100 * progress.loaded) / progress.total) : 0
}
