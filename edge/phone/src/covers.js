// Whether an image is within a model's intended use: edge/agent/model.py.

/** What the use or the header leaves open does not count. */
export function covers(use, header) {
  const pairs = [
    [use.modality, header.modality],
    [use.body_part, header.body_part],
    [use.view, header.view],
  ];
  const outside = ([allowed, found]) =>
    allowed?.length > 0 && found && !allowed.some((term) => term.toUpperCase() === found.toUpperCase());
  if (pairs.some(outside)) return false;
  const age = header.age_years ?? null;
  return age === null || ((use.min_age_years ?? age) <= age && age <= (use.max_age_years ?? age));
}
