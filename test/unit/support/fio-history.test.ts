/** The judge of snapshots under load refuses what no moment can have shown. */
import { describe, expect, it } from 'vitest';
import { judge, type Region, type State } from '../../support/fio-history.js';

const UNIT = 512;
const UNITS = 20;
const region: Region = { offset: UNIT, size: UNITS * UNIT + 100, unit: UNIT, depth: 4 };
const SIZE = UNIT * (UNITS + 3);

/** A pass that wrote the units from the last to the first. */
function pass(seed: number): Buffer {
  const bytes = Buffer.alloc(SIZE);
  for (let index = 0; index < UNITS; index += 1) {
    const at = region.offset + index * UNIT;
    bytes.fill(seed, at, at + UNIT);
    bytes.writeUInt16LE(0xacca, at);
    bytes.writeUInt16LE(UNITS - 1 - index, at + 34);
  }
  return bytes;
}

/** The disk after those writes of the second pass. */
function written(...orders: number[]): Buffer {
  const bytes = pass(1);
  for (const order of orders) {
    const at = region.offset + (UNITS - 1 - order) * UNIT;
    pass(2).copy(bytes, at, at, at + UNIT);
  }
  return bytes;
}

const states = new Map<number, State>([
  [1, { bytes: pass(1), by: 'pass' }],
  [2, { bytes: pass(2), by: 'pass' }],
  [3, { bytes: pass(1), by: 'restore' }],
]);
const judged = (bytes: Buffer, first = 1, last = 2) =>
  judge([region], states, { name: 'it', bytes, first, last });

describe('a snapshot that was made while fio wrote', () => {
  it('may have what was sent, without what was under way', () => {
    judged(written());
    judged(written(0, 1, 2, 3, 4));
    judged(written(0, 1, 5));
    judged(written(3));
    judged(pass(2));
    judged(pass(1), 2, 3);
  });

  it('must have what was answered before', () => {
    expect(() => judged(written(0, 1, 6))).toThrow('it has write 6');
    expect(() => judged(written(4))).toThrow('and not 4 earlier ones');
  });

  it('has writes as a whole, and nothing else', () => {
    const torn = written(0, 1);
    torn[region.offset + UNITS * UNIT - 1] = 1;
    expect(() => judged(torn)).toThrow('neither of before nor of after');
    const beyond = written(0, 1);
    beyond[SIZE - 1] = 1;
    expect(() => judged(beyond)).toThrow('changed');
    const front = written(0, 1);
    front[0] = 1;
    expect(() => judged(front)).toThrow('between 0 and 512 changed');
  });

  it('is put back as a whole', () => {
    expect(() => judged(written(0, 1), 2, 3)).toThrow('put back');
  });

  it('is of some moment of several', () => {
    judged(written(0, 1), 1, 3);
    expect(() => judged(written(4), 1, 3)).toThrow(/between 1 and 2: .*; between 2 and 3/);
  });
});
