// Which part of a frame the model sees: edge/imaging/region.py.

/** The region that is left of a frame after the Steps, in fractions of it: {top, left, height, width}. */
export function seenRegion(steps, height, width) {
  let [top, left, tall, wide] = [0, 0, 1, 1];
  let [rows, columns] = [height, width];
  for (const step of steps) {
    let [above, before, newRows, newColumns] = [0, 0, rows, columns];
    if (step.op === "crop") {
      const margin = (share, side) => Math.floor(((share ?? 0) * side) / 1000);
      above = margin(step.top, rows);
      before = margin(step.left, columns);
      newRows = rows - above - margin(step.bottom, rows);
      newColumns = columns - before - margin(step.right, columns);
    } else if (step.op === "pad") {
      newRows = newColumns = Math.max(rows, columns);
      above = -((newRows - rows) >> 1);
      before = -((newColumns - columns) >> 1);
    } else if (step.op === "resize") {
      [rows, columns] = [step.height, step.width];
      continue;
    }
    top += (above * tall) / rows;
    left += (before * wide) / columns;
    tall *= newRows / rows;
    wide *= newColumns / columns;
    [rows, columns] = [newRows, newColumns];
  }
  return { top, left, height: tall, width: wide };
}

/** Where the maximum of an activation map {height, width, values} lies in the frame, in fractions. */
export function peak(cam, region) {
  const at = cam.values.indexOf(Math.max(...cam.values));
  const inside = (value) => Math.min(Math.max(value, 0), 1);
  return [
    inside(region.top + ((Math.floor(at / cam.width) + 0.5) / cam.height) * region.height),
    inside(region.left + (((at % cam.width) + 0.5) / cam.width) * region.width),
  ];
}
