/**
 * Room for records that is counted now and then.
 */
import { describe, expect, it } from 'vitest';
import { Room } from '../../../../src/offload/store/lmdb-room.js';

describe('Room', () => {
  it.each([0, 1, 5, 63, 64, 65, 1000, 10_000])('takes %i and not one more', (most) => {
    let held = 0;
    let counts = 0;
    const room = new Room(most, () => {
      counts += 1;
      return held;
    });
    while (room.take()) held += 1;
    expect(held).toBe(most);
    expect(room.take()).toBe(false);
    if (most > 0) held -= 1;
    expect(room.take()).toBe(most > 0);
    if (most >= 1000) expect(counts).toBeLessThan(most / 2);
  });
});
