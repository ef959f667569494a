// Whether a DICOM file says that it is a frontal radiograph of a chest, as src/chexvision/images/dicom_checks.py.
//
// Texts of the file are compared with the standard's terms and never repeated.

import { type Elements, TAG } from './elements'

const RADIOGRAPHS = ['CR', 'DX', 'RG']
const MODALITIES: Record<string, string> = {
  CT: 'CT',
  MR: 'MR',
  US: 'ultrasound',
  MG: 'mammography',
  NM: 'nuclear medicine',
  PT: 'PET',
  XA: 'angiography',
  RF: 'fluoroscopy',
  IO: 'intra-oral radiography',
  PX: 'panoramic radiography',
  SC: 'a secondary capture',
  OT: 'another one',
  SR: 'a report',
  SEG: 'a segmentation',
}
const CHESTS = ['CHEST', 'THORAX', 'LUNG', 'LUNGS', 'TORAX', 'POUMON']
const FRONTAL = ['PA', 'AP', 'FRONTAL']
const LATERAL = ['LL', 'RL', 'LAT', 'LATERAL', 'LLAT', 'RLAT', 'L LAT', 'R LAT', 'ML', 'LM']
const OBLIQUE = ['RLO', 'LLO', 'LAO', 'RAO', 'LPO', 'RPO', 'OBL', 'OBLIQUE']
const DECUBITUS = ['LLD', 'RLD']
// CID 4010 (PS3.16) by its SNOMED CT code and the earlier SRT code.
const FRONTAL_CODES = ['399348003', 'R-10206', '272479007', 'R-10214', 'R-40888', '399033003', 'R-10202']
const LATERAL_CODES = [
  ...['399067008', 'R-102CD', '399173006', 'R-10236', '399198007', 'R-10232', '399352003', 'R-10228'],
  ...['399260004', 'R-10224', '30730003', 'G-A145'],
]

export interface Findings {
  /** Why it is not read; with `anyView` these are warnings. */
  refusals: string[]
  /** Why it may not be a radiograph like others. */
  warnings: string[]
}

/** What modality, body part, view and purpose mean for the reading of a file. */
export function checkElements(elements: Elements): Findings {
  const found: Findings = { refusals: [], warnings: [] }
  checkModality(elements.text(TAG.modality), found)
  const part = elements.text(TAG.bodyPart)
  if (part && !CHESTS.some((chest) => part.includes(chest))) found.refusals.push('its body part is not the chest')
  checkView(elements, found)
  if (elements.text(TAG.intent) === 'FOR PROCESSING') {
    found.refusals.push('it is raw data of the detector (FOR PROCESSING), not an image for presentation')
  }
  if (elements.text(TAG.burnedIn) === 'YES') {
    found.warnings.push('text is burned into its pixels, possibly of the patient: do not share the image')
  }
  return found
}

function checkModality(modality: string, found: Findings): void {
  if (!modality) {
    found.warnings.push('its modality is not stated')
  } else if (!RADIOGRAPHS.includes(modality)) {
    const named = Object.hasOwn(MODALITIES, modality) ? `, but ${MODALITIES[modality]}` : ''
    found.refusals.push(`its modality is not CR or DX${named}`)
  }
}

function checkView(elements: Elements, found: Findings): void {
  const position = elements.text(TAG.viewPosition)
  const code = elements.items.get(TAG.viewCodes)?.text(TAG.codeValue) ?? ''
  const directions = elements.texts(TAG.patientOrientation)
  if (LATERAL.includes(position) || LATERAL_CODES.includes(code)) {
    found.refusals.push('its view is lateral')
  } else if (OBLIQUE.includes(position)) {
    found.refusals.push('its view is oblique')
  } else if (DECUBITUS.includes(position)) {
    found.refusals.push('the patient lies on one side (decubitus)')
  } else if (!FRONTAL.includes(position) && !FRONTAL_CODES.includes(code)) {
    // Along a row from front to back, or the reverse.
    if (['A', 'P'].includes(directions[0]?.[0])) {
      found.refusals.push('its view is lateral by the orientation of the patient')
    } else {
      found.warnings.push('its view is not stated as PA or AP')
    }
  }
  if (directions.length === 2 && (directions[0][0] === 'R' || directions[1][0] === 'H')) {
    found.warnings.push('its pixels are mirrored or upside down by the orientation of the patient')
  }
}
