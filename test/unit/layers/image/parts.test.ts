/** The small parts of devices over images, and the guard: each rule once. */
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../../../src/block/block-device.js';
import { assertNotLoosened, GuardedDevice } from '../../../../src/block/guarded-device.js';
import { MemoryDevice } from '../../../../src/block/memory-device.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { BlockSet } from '../../../../src/layers/image/block-set.js';
import { DirtyTimer } from '../../../../src/layers/image/dirty-timer.js';
import { QuickWriter } from '../../../../src/layers/image/quick-writer.js';
import { FakeTimer } from '../../../support/fake-timer.js';

describe('a guard', () => {
  it('refuses what is outside, unaligned, forbidden or late', async () => {
    const guard = new GuardedDevice(new MemoryDevice(8192, { blockSize: 512 }));
    await expect(guard.read(Buffer.alloc(512), 8192)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    await expect(guard.read(Buffer.alloc(512), -512)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    await expect(guard.write(Buffer.alloc(100), 0)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(() => guard.readNow?.(Buffer.alloc(512), 1)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
    const reading = new GuardedDevice(new MemoryDevice(8192), { readOnly: true });
    expect(reading.capabilities).toMatchObject({ writable: false, trim: false, zero: false, extents: true });
    expect(reading.writeNow).toBeUndefined();
    await expect(reading.zero(0, 1)).rejects.toMatchObject({ code: 'READ_ONLY' });
    await guard.close();
    await expect(guard.flush()).rejects.toMatchObject({ code: 'IO_FAILED' });
  });

  it('lets no layer claim more than what it stands on', () => {
    const { capabilities } = new MemoryDevice(512);
    expect(() => assertNotLoosened(capabilities, { ...capabilities, trim: false })).toThrow("'trim'");
    expect(() => assertNotLoosened({ ...capabilities, trim: false }, capabilities)).not.toThrow();
  });

  it('closes after what is under way, and finds wrong answers about extents', async () => {
    let finish: () => void = () => undefined;
    const inner = new MemoryDevice(8192);
    const slow = Object.create(inner, {
      read: { value: () => new Promise<void>((resolve) => (finish = resolve)) },
      extents: { value: async () => [{ offset: 512, length: 512, hole: false, zero: false }] },
      close: { value: async () => undefined },
      capabilities: { value: inner.capabilities },
      size: { value: 8192 },
    }) as BlockDevice;
    const guard = new GuardedDevice(slow);
    await expect(guard.extents(0, 8192)).rejects.toThrow('extents follow each other');
    const reading = guard.read(Buffer.alloc(1), 0);
    let closed = false;
    const closing = guard.close().then(() => {
      closed = true;
    });
    await new Promise(setImmediate);
    expect(closed).toBe(false);
    finish();
    await Promise.all([reading, closing]);
  });
});

describe('a dirty timer', () => {
  it('flushes once some time after a change, and tells of a failure that nobody saw', async () => {
    const timer = new FakeTimer();
    let flushes = 0;
    const dirty = new DirtyTimer(timer, 100, async () => {
      flushes += 1;
      if (flushes === 2) throw new Error('lost');
    });
    dirty.changed();
    dirty.changed();
    for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
    expect({ flushes, time: timer.time }).toEqual({ flushes: 1, time: 100 });
    dirty.changed();
    for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
    expect(() => dirty.settled()).toThrow('lost');
    expect(() => dirty.settled()).not.toThrow();
    await dirty.stop();
  });
});

describe('a set of blocks', () => {
  it('agrees with a plain set, across pages', () => {
    const size = 300_000;
    const blocks = new BlockSet(size);
    const model = new Set<number>();
    const ranges = [
      [0, 1],
      [7, 18],
      [65_530, 65_545],
      [65_536, 2 * 65_536],
      [140_000, 260_001],
      [size - 3, size],
    ] as const;
    for (const [from, to] of ranges) {
      blocks.add(from, to);
      for (let block = from; block < to; block += 1) model.add(block);
    }
    for (let block = 0; block < size; block += 1) {
      if (blocks.has(block) !== model.has(block)) throw new Error(`block ${block}`);
    }
    for (let from = 0; from < size; from += 997) {
      for (const present of [true, false]) {
        let wanted = from;
        while (wanted < size && model.has(wanted) !== present) wanted += 1;
        expect(blocks.next(from, size, present)).toBe(wanted);
      }
    }
  });
});

describe('a quick writer', () => {
  it('leaves slow storage alone for a while', () => {
    const timer = new FakeTimer({ frozen: true });
    let [took, calls] = [0.1, 0];
    const file = Object.assign(new MemoryFile(), {
      writeHere: () => {
        calls += 1;
        timer.time += took;
        return true;
      },
    });
    const quick = new QuickWriter(timer);
    const write = (): boolean => quick.write(file, Buffer.alloc(4096), 0);
    expect([write(), write(), calls]).toEqual([true, true, 2]);
    took = 10;
    expect([write(), write(), write(), calls]).toEqual([true, false, false, 3]);
    timer.time += 501;
    expect([write(), calls]).toEqual([true, 4]);
    expect(quick.write(file, Buffer.alloc(1 << 20), 0)).toBe(false);
  });
});
