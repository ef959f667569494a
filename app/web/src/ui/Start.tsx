// The page before an image is chosen.

import { Facts } from './Facts'
import { FileButton } from './Images'
import { MOST_IMAGES, type Session } from './session'
import { megabytes } from './words'

export function Start({ session }: { session: Session }) {
  const { model } = session
  const file = model?.info?.files['onnx/model.onnx']
  return (
    <div class="start">
      <section class="drop">
        <h2>Read a chest radiograph</h2>
        <p>Drop PNG, JPEG or DICOM files here, paste an image, or</p>
        <FileButton onFiles={(files) => session.add(files)}>Choose files</FileButton>
        <p class="hint">Frontal views, up to {MOST_IMAGES} at a time.</p>
      </section>
      <section class="promises">
        <h2>What happens</h2>
        <ul>
          <li>
            <strong>Nothing is uploaded.</strong> Images are read, checked and computed in this browser, and forgotten
            when you close the page. Names, dates and numbers of patients in DICOM files are not read.
          </li>
          <li>
            The model{file ? ` (${megabytes(file.bytes)})` : ''} is downloaded once, when you choose the first image.
          </li>
          <li>
            You get the probability of each finding, its threshold with what that means, and a map of what raised it.
          </li>
        </ul>
      </section>
      {model?.info && (
        <section class="about">
          <h2>Model</h2>
          <Facts model={model} />
        </section>
      )}
    </div>
  )
}
