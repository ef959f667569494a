// What is being done, what went wrong, and why an answer may not be valid.

import { type Item, percentOf, type Session } from './session'
import { megabytes } from './words'

/** Why the answers may not be valid for this image. */
export function Warnings({ item, session }: { item: Item; session: Session }) {
  const of = session.shown.flatMap((model) => item.answers.get(model)?.warnings ?? [])
  const texts = [...new Set([...(item.radiograph?.warnings ?? []), ...of])]
  if (!texts.length) return null
  return (
    <div class="notice warning" role="note" aria-label="Warning">
      <h2>⚠ This image may not suit the model</h2>
      <ul>
        {texts.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
    </div>
  )
}

/** A file that could not be read. */
export function Refused({ session, item }: { session: Session; item: Item }) {
  return (
    <div class="notice refused">
      <h2>{item.file.name} could not be used</h2>
      <p>{item.failure!.message}</p>
      {item.failure!.anyViewHelps && (
        <button type="button" class="button" onClick={() => session.acceptAnyView(item)}>
          Read it anyway
        </button>
      )}
      <p class="hint">Choose another file, or one of the images above.</p>
    </div>
  )
}

/** One line: what is being done, or how long it took. Its height never changes. */
export function Status({ session, item }: { session: Session; item: Item }) {
  const failed = session.shown.find((model) => model.error)
  if (failed) {
    return (
      <div class="status error">
        <p>{failed.error}</p>
        <button type="button" class="button" onClick={() => session.retry(failed)}>
          Try again
        </button>
      </div>
    )
  }
  const error = session.shown.map((model) => item.errors.get(model)).find((text) => text !== undefined)
  if (error !== undefined) return <p class="status error">{error}</p>
  const loading = session.shown.find((model) => model.progress)
  if (loading?.progress) {
    const { loaded, total } = loading.progress
    const done = total > 0 && loaded === total
    return (
      <div class="status">
        <label>
          <span>
            {done
              ? `Starting ${loading.entry.name}`
              : `Downloading ${loading.entry.name}: ${megabytes(loaded)} of ${megabytes(total)}`}
          </span>
          <progress max="100" value={done ? undefined : percentOf(loading.progress)} />
        </label>
      </div>
    )
  }
  if (!item.radiograph) return <p class="status">Reading the file…</p>
  const answers = session.shown.map((model) => item.answers.get(model))
  const seconds = answers.map((answer) => (answer ? `${(answer.milliseconds / 1000).toFixed(1)} s` : ''))
  return (
    <p class="status">
      {answers.every(Boolean) ? `Computed in this browser in ${seconds.join(' and ')}` : 'Computing…'}
    </p>
  )
}
