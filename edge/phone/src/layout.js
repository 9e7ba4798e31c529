// How light and dark lie in an image; layout() of edge/inference/ood.py.

import { applySteps } from "./steps.js";

/** Gray area means of a model's input image, side x side, less their mean, over their standard deviation. */
export function layout(modelImage, side) {
  const { data } = applySteps(modelImage, [{ op: "grayscale" }, { op: "resize", height: side, width: side }]);
  const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
  const spread = Math.sqrt(data.reduce((sum, value) => sum + (value - mean) ** 2, 0) / data.length);
  return Float32Array.from(data, (value) => (value - mean) / (spread || 1));
}
