// Choosing images, and the list of those that were chosen.

import type { ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { findingsOf } from './findings'
import type { Item, Model, Session } from './session'
import { RadiographCanvas } from './Viewer'
import { count } from './words'

const ACCEPTED = '.png,.jpg,.jpeg,.dcm,.dicom,image/png,image/jpeg,application/dicom'

/** A button that opens the browser's dialog for files. */
export function FileButton({ onFiles, children }: { onFiles: (files: File[]) => void; children: ComponentChildren }) {
  return (
    <label class="button primary file">
      <input
        type="file"
        multiple
        accept={ACCEPTED}
        onChange={(event) => {
          onFiles([...(event.currentTarget.files ?? [])])
          event.currentTarget.value = '' // the same file can be chosen again
        }}
      />
      {children}
    </label>
  )
}

/** Files dropped anywhere on the page, or pasted. Returns whether files are being dragged over the page. */
export function useDroppedFiles(onFiles: (files: File[]) => void): boolean {
  const [dragging, setDragging] = useState(false)
  useEffect(() => {
    const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false
    const over = (event: DragEvent) => {
      if (!hasFiles(event)) return
      event.preventDefault()
      setDragging(true)
    }
    const leave = (event: DragEvent) => void (event.relatedTarget === null && setDragging(false))
    const drop = (event: DragEvent) => {
      event.preventDefault()
      setDragging(false)
      const files = [...(event.dataTransfer?.files ?? [])]
      if (files.length) onFiles(files)
    }
    const paste = (event: ClipboardEvent) => {
      const files = [...(event.clipboardData?.files ?? [])]
      if (files.length) onFiles(files)
    }
    const stop = new AbortController()
    const { signal } = stop
    addEventListener('dragover', over, { signal })
    addEventListener('dragleave', leave, { signal })
    addEventListener('drop', drop, { signal })
    addEventListener('paste', paste, { signal })
    return () => stop.abort()
  }, [])
  return dragging
}

export function ImageList({ session }: { session: Session }) {
  return (
    <nav class="images" aria-label="Images">
      <ul>
        {session.items.map((item) => (
          <li key={item.id} class={item === session.active ? 'active' : ''}>
            <button
              type="button"
              class="open"
              aria-current={item === session.active ? 'true' : undefined}
              onClick={() => session.activate(item)}
            >
              <span class="thumbnail" aria-hidden="true">
                {item.radiograph && <RadiographCanvas image={item.radiograph} description="" side={96} />}
              </span>
              <span class="text">
                <span class="file-name">{item.file.name}</span>
                <span class="state">{stateOf(item, session.model)}</span>
              </span>
            </button>
            <button
              type="button"
              class="remove"
              aria-label={`Remove ${item.file.name}`}
              onClick={() => session.remove(item)}
            >
              ×
            </button>
          </li>
        ))}
      </ul>
    </nav>
  )
}

function stateOf(item: Item, model: Model | null): string {
  if (item.failure) return 'could not be used'
  const answer = model && item.answers.get(model)
  if (!answer || !model.info) return item.radiograph ? 'waiting' : 'reading'
  const above = findingsOf(model.info, answer).filter(
    (one) => one.group === 'above' && one.name !== model.info!.label_space.abnormal,
  )
  const warned = item.radiograph?.warnings.length || answer.warnings.length ? '⚠ ' : ''
  return `${warned}${count(above.length, 'finding')} above`
}
