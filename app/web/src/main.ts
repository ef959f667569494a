import { loadEngine } from './engine/engine'
import { readRadiograph } from './reading/reader'
import type { PageConfig } from './types'

const shown = document.querySelector('#answer')!
const config = (await (await fetch('models.json')).json()) as PageConfig
const engine = await loadEngine(config.models[0].folder, (loaded, total) => {
  shown.textContent = `${loaded} of ${total} bytes`
})
shown.textContent = `${engine.info.model} is ready`
document.querySelector<HTMLInputElement>('#file')!.addEventListener('change', async (event) => {
  const file = (event.target as HTMLInputElement).files![0]
  try {
    const answer = await engine.answer(await readRadiograph(await file.arrayBuffer()))
    shown.textContent = JSON.stringify({ ...answer, maps: null }, null, 1)
  } catch (error) {
    shown.textContent = String(error)
  }
})
