// From a prediction to a decision: the rules of edge/inference/decision.py and ood.py.

/** Calibrated probabilities of logits: softmax of logits / temperature, or sigmoid where several may hold at once. */
export function probabilities(logits, manifest) {
  const scaled = Array.from(logits, (value) => value / manifest.decision.temperature);
  if (manifest.task !== "single-label") return scaled.map((value) => 0.5 * (1 + Math.tanh(value / 2)));
  const largest = Math.max(...scaled);
  const powers = scaled.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

/** The larger of the distances of embedding and layout, of those that the gate has. */
export function oodScore({ embedding, layout }, { mean, whitening, layout_mean = [], layout_whitening = [] }) {
  const scores = [];
  if (mean.length) scores.push(distance(embedding, mean, whitening));
  if (layout_mean.length) scores.push(distance(layout, layout_mean, layout_whitening));
  return Math.max(...scores); // a score that is no number stays one
}

/* Mahalanobis distance: ||(found - mean) @ whitening||, whitening row by row [D, k]. */
function distance(found, mean, whitening) {
  const directions = whitening.length / mean.length;
  const projected = new Float64Array(directions);
  for (let d = 0; d < mean.length; d++) {
    const offset = found[d] - mean[d];
    for (let k = 0; k < directions; k++) projected[k] += offset * whitening[d * directions + k];
  }
  return Math.sqrt(projected.reduce((sum, value) => sum + value * value, 0));
}

/**
 * Decide, or say why not: image quality first, then out of distribution, then uncertain.
 *
 * `said` is {logits, embedding, layout, reasons}: reasons are those of the quality gates. With any reason the decision
 * is "no_result", and label, probability and probabilities are empty.
 */
export function decide(said, manifest, ood) {
  const { decision, labels } = manifest;
  const values = probabilities(said.logits, manifest);
  const thresholds = Object.fromEntries(
    Object.entries(decision.thresholds).map(([label, limit]) => [label, limit.value]),
  );
  const limit = decision.ood ? decision.ood.limit : null;
  const score = decision.ood ? oodScore(said, ood) : null;
  const reasons = [...said.reasons];
  // "not <=": a score that is no number is out of distribution, too.
  if (limit !== null && !(score <= limit)) reasons.push("out_of_distribution");
  if (!(Math.max(...values) >= decision.abstain_below)) reasons.push("uncertain");
  const outcome = {
    decision: "no_result",
    label: null,
    probability: null,
    probabilities: {},
    thresholds,
    reasons,
    ood_score: Number.isFinite(score) ? score : null,
    ood_limit: limit,
  };
  if (reasons.length) return outcome;

  const of = (label) => values[labels.indexOf(label)];
  outcome.probabilities = Object.fromEntries(labels.map((label, i) => [label, values[i]]));
  const positive = Object.keys(thresholds).filter((label) => of(label) >= thresholds[label]);
  if (positive.length) {
    const excess = (label) => of(label) / Math.max(thresholds[label], 1e-12);
    const label = positive.reduce((best, other) => (excess(other) > excess(best) ? other : best));
    return { ...outcome, decision: "positive", label, probability: of(label) };
  }
  const negative = decision.negative_label ?? null;
  return { ...outcome, decision: "negative", label: negative, probability: negative === null ? null : of(negative) };
}
