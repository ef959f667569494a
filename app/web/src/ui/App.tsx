// The page.

import { useEffect, useLayoutEffect, useReducer, useState } from 'preact/hooks'
import { Header } from './Header'
import { FileButton, ImageList, useDroppedFiles } from './Images'
import { More } from './More'
import type { Display } from './Overlays'
import { Session } from './session'
import { Start } from './Start'
import { Work } from './Work'
import { WHOLE } from './zoom'

export function App() {
  const [, refresh] = useReducer((changes: number, _: null) => changes + 1, 0)
  const [session] = useState(() => new Session(() => refresh(null)))
  const [display, setDisplay] = useState<Display>({ style: 'color', opacity: 0.6, view: WHOLE })
  const [withNames, setWithNames] = useState(false)
  const dragging = useDroppedFiles((files) => session.add(files))
  useEffect(() => void session.start(), [])
  useEscape(display, setDisplay)
  const item = session.active
  // Before the browser shows the image: what the reader does next is not undone.
  useLayoutEffect(() => setDisplay((before) => ({ ...before, view: WHOLE })), [item])
  return (
    <>
      <Header session={session} />
      <main>
        {session.problem && (
          <p class="notice refused" role="alert">
            {session.problem}
          </p>
        )}
        {item ? (
          <>
            <div class="chooser">
              <ImageList session={session} />
              <FileButton onFiles={(files) => session.add(files)}>Add files</FileButton>
            </div>
            <Work {...{ session, item, display, withNames }} onDisplay={setDisplay} />
            <More {...{ session, item, withNames }} onWithNames={setWithNames} />
          </>
        ) : (
          session.started && <Start session={session} />
        )}
      </main>
      {session.started && (
        <footer>
          CheXVision: chest radiograph classifiers, <a href="licenses.txt">software in this page</a>
        </footer>
      )}
      <p class="for-listeners" role="status">
        {session.announcement}
      </p>
      {dragging && <div class="dragging">Drop the files to read them in this browser</div>}
    </>
  )
}

/** Escape shows the whole image again; with the whole image on the screen it hides or shows the map. */
function useEscape(display: Display, setDisplay: (display: Display) => void) {
  const [before, setBefore] = useState(display.style)
  // With what is on the screen: an effect would run later than a key that follows at once.
  useLayoutEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.key !== 'Escape' || event.target instanceof HTMLSelectElement) return
      if (display.view.scale > 1) return setDisplay({ ...display, view: WHOLE })
      if (display.style !== 'off') setBefore(display.style)
      setDisplay({ ...display, style: display.style === 'off' ? before : 'off' })
    }
    addEventListener('keydown', onKeyDown)
    return () => removeEventListener('keydown', onKeyDown)
  })
}
