// The messages that a phone sends: the contracts of edge/mqtt/payloads.py, version 1.

const BOOT_ID = crypto.randomUUID();
const STARTED = new Date();

/** The topics of one device: edge/mqtt/topics.py. */
export function topics({ site, device }) {
  const up = (name) => `scanwright/${site}/${device}/up/${name}`;
  return {
    availability: up("availability"),
    birth: up("birth"),
    finding: up("finding"),
    health: up("health"),
    ack: `scanwright/${site}/${device}/down/ack`,
  };
}

/** When something happens; a clock is not believed where it is before `floor`, milliseconds. */
export function stamp(floor) {
  return {
    at: new Date().toISOString(),
    clock_trusted: Date.now() >= floor,
    monotonic_s: performance.now() / 1000,
    boot_id: BOOT_ID,
  };
}

/** A Finding. `frame` is what was judged, `outcome` what may be said of it. */
export async function finding({ app, settings, identity, frame, outcome }) {
  return {
    schema_version: 1,
    id: await identity.finding(app.bundle, frame.identity),
    site: settings.site,
    device: settings.device,
    stamp: stamp(app.floor),
    case_code: await identity.caseCode(frame.study),
    study: await identity.study(frame.study),
    source: frame.source,
    frame: frame.index,
    bundle: app.bundle,
    decision: outcome.decision,
    label: outcome.label,
    probability: outcome.probability,
    probabilities: outcome.probabilities,
    thresholds: outcome.thresholds,
    reasons: outcome.reasons,
    evidence: outcome.evidence,
    elapsed_ms: Object.fromEntries(
      Object.entries(outcome.elapsed_ms).map(([stage, ms]) => [stage, Math.max(0, Math.round(1000 * ms) / 1000)]),
    ),
    policy: null,
    test: false,
    backfill: false,
  };
}

export function birth(app, settings) {
  return {
    schema_version: 1,
    site: settings.site,
    device: settings.device,
    stamp: stamp(app.floor),
    agent_version: app.version,
    target: app.bundle.target,
    interpreter: app.interpreter,
    bundles: [app.bundle],
    started: STARTED.toISOString(),
  };
}

/** Health, as far as a browser says: memory is 0 where it does not, and there is no load. */
export async function health(app, counters, store) {
  const { quota = 0, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  const { oldest } = await store.ends();
  return {
    schema_version: 1,
    stamp: stamp(app.floor),
    uptime_s: performance.now() / 1000,
    frames: counters.frames,
    findings: counters.findings,
    quarantined: 0,
    backlog: await store.backlog(),
    backlog_oldest_s: oldest === null ? null : Math.max(0, (Date.now() - oldest) / 1000),
    last_frame: counters.lastFrame,
    inference_ms: counters.inferenceMs,
    disk_free_mb: Math.max(0, quota - usage) / 1e6,
    memory_mb: (performance.memory?.usedJSHeapSize ?? 0) / 1e6,
    load: 0,
  };
}
