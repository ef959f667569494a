import { loadConfig, loadEngine, loadInfo } from './engine/engine'
import { readRadiograph } from './reading/reader'

const shown = document.querySelector('#answer')!
const [entry] = (await loadConfig()).models
const engine = await loadEngine(entry.folder, await loadInfo(entry.folder), (loaded, total) => {
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
