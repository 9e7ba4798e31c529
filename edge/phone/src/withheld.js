// The outcome without a result.

/** That there is no result, and why: a code of edge/bundle/reasons.py. */
export function withheld(reason) {
  return {
    decision: "no_result",
    label: null,
    probability: null,
    probabilities: {},
    thresholds: {},
    reasons: [reason],
    evidence: {},
    cam: null,
    mask: null,
    region: null,
    elapsed_ms: {},
  };
}
