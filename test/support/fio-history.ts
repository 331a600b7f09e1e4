/**
 * What a snapshot may show that was made while fio wrote: a judge that knows nothing of how snapshots are made.
 *
 * fio writes each unit of a region once in a pass, in an order that it notes in the units themselves (`numberio` of
 * its verify header, fio 3, `struct verify_header` in verify.h), with so many under way at most. So if the snapshot has
 * a unit of this pass, it has all that were sent before, but for those that can have been under way then.
 *
 * Invariant: a state that no moment had is refused. What is under way at the moment may be in or not, but as a whole.
 */

/** Where one job of fio writes, in bytes. */
export interface Region {
  offset: number;
  size: number;
  /** What is written at once. */
  unit: number;
  /** How many may be under way. */
  depth: number;
}

/** What the disk held when nothing was under way, and how it came to that: by a pass of fio, or put back at once. */
export interface State {
  bytes: Buffer;
  by: 'pass' | 'restore';
}

/** A snapshot that was made between two states, or while several came and went. */
export interface Shown {
  name: string;
  bytes: Buffer;
  /** Number of the state that was complete when its making began, and of the first one after its end. */
  first: number;
  last: number;
}

const MAGIC = 0xacca;

/** Which write of the job it was. @throws Error where there is no header of fio */
function orderOf(bytes: Buffer, at: number): number {
  if (bytes.readUInt16LE(at) !== MAGIC) throw new Error(`no data of fio at ${at}`);
  return bytes.readUInt16LE(at + 34);
}

/** Why a region can not have looked like this on the way from one state to the next; undefined: it can. */
function wrongIn(region: Region, bytes: Buffer, before: Buffer, after: Buffer): string | undefined {
  const { offset, size, unit, depth } = region;
  const old: number[] = [];
  let newest = -1;
  for (let at = offset; at + unit <= offset + size; at += unit) {
    const order = orderOf(after, at);
    const has = (state: Buffer): boolean => bytes.compare(state, at, at + unit, at, at + unit) === 0;
    if (has(after)) newest = Math.max(newest, order);
    else if (has(before)) old.push(order);
    else return `what is at ${at} is neither of before nor of after`;
  }
  const missing = old.filter((order) => order < newest);
  if (missing.length < depth) return undefined;
  return `it has write ${newest} of the region at ${offset}, and not ${missing.length} earlier ones`;
}

function wrongBetween(
  regions: readonly Region[],
  bytes: Buffer,
  before: Buffer,
  next: State,
): string | undefined {
  if (bytes.equals(before) || bytes.equals(next.bytes)) return undefined;
  if (next.by === 'restore') return 'it is neither what was there nor what was put back';
  for (const region of regions) {
    const wrong = wrongIn(region, bytes, before, next.bytes);
    if (wrong !== undefined) return wrong;
  }
  // What no job writes to is the same at every moment.
  let from = 0;
  for (const end of [...regions.map(({ offset }) => offset), bytes.length]) {
    if (bytes.compare(before, from, end, from, end) !== 0)
      return `what is between ${from} and ${end} changed`;
    const region = regions.find(({ offset }) => offset === end);
    if (region) from = end + region.size - (region.size % region.unit);
  }
  return undefined;
}

/**
 * Judges a snapshot. `states` has all from `first` to `last`; regions are in order.
 * @throws Error that says what is wrong with every moment it could be of
 */
export function judge(regions: readonly Region[], states: ReadonlyMap<number, State>, shown: Shown): void {
  const reasons: string[] = [];
  for (let number = shown.first; number < shown.last; number += 1) {
    const before = states.get(number);
    const next = states.get(number + 1);
    if (!before || !next) throw new Error(`state ${number} or the next one is not known`);
    const wrong = wrongBetween(regions, shown.bytes, before.bytes, next);
    if (wrong === undefined) return;
    reasons.push(`between ${number} and ${number + 1}: ${wrong}`);
  }
  throw new Error(`${shown.name} shows no moment: ${reasons.join('; ')}`);
}
