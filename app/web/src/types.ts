// What the parts of the page hand to each other. `ModelInfo` is onnx/model.json; see
// src/chexvision/runtime/export_info.py.

export interface ThresholdResult {
  sensitivity: number | null;
  specificity: number | null;
  precision: number | null;
  positives: number | null;
  images: number | null;
}

export interface ModelInfo {
  format: 1;
  version: string;
  model: string;
  run_id: string | null;
  label_space: { findings: string[]; normal: string; abnormal: string };
  side: number;
  image_size: number;
  map_method: string | null;
  /** Why it has no maps. */
  without_maps?: string | null;
  synthetic: boolean;
  /** What it was trained on, in words. */
  data?: string | null;
  calibration: string;
  rule: string;
  thresholds: Record<string, number>;
  test: Record<string, ThresholdResult>;
  test_set: string | null;
  checks: { name: string; limit: number; message: string }[];
  sources: Record<string, string>;
  files: Record<string, { sha256: string; bytes: number }>;
}

/** One image as 8-bit gray, row by row, and what was done to make it so. Nothing of a patient. */
export interface Radiograph {
  pixels: Uint8Array<ArrayBuffer>;
  width: number;
  height: number;
  notes: string[];
  warnings: string[];
}

/** Maps of the regions that raise each output: `values[output * height * width + row * width + column]`, at least 0,
 * in units of the logit. */
export interface HeatMaps {
  values: Float32Array;
  width: number;
  height: number;
}

/** What a model says about one image; `probabilities` and `maps` in the order of the findings, then Abnormal. */
export interface Answer {
  probabilities: number[];
  maps: HeatMaps | null;
  /** Of the input check: why the image may not be what the model was trained on. */
  warnings: string[];
  milliseconds: number;
}

/** Bytes of a model that have arrived; the model is then started, which takes about a second. */
export type OnProgress = (loaded: number, total: number) => void;

/** A loaded model. */
export interface Engine {
  info: ModelInfo;
  /** Answers one image after the other, in the order of the calls. Rejects with a `PageError`. */
  answer(image: Radiograph): Promise<Answer>;
  /** Frees its memory; questions that have no answer yet are rejected. */
  close(): void;
}

/** models.json next to the page: the models that it offers, the first one shown. `folder` holds onnx/. */
export interface PageConfig {
  models: ModelEntry[];
}

/** `revision` is the pinned commit on the Hub, `url` its page there; both null for a local folder. */
export interface ModelEntry {
  name: string;
  folder: string;
  url: string | null;
  revision: string | null;
}

/** Why something does not work: `message` is one sentence for the reader, with the next step. */
export class PageError extends Error {
  override name = 'PageError'

  constructor(
    message: string,
    /** Whether reading with `anyView` accepts the file: it was refused only for what it says that it shows. */
    readonly anyViewHelps = false,
  ) {
    super(message)
  }
}
