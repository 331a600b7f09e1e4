/**
 * The suite every block device passes: what src/block/block-device.ts promises, checked against a plain byte
 * array, one request after the other and many at once.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/block/block-device.js';

export interface DeviceUnderTest {
  device: BlockDevice;
  /** What it shows at first. */
  content: Buffer;
  /** Closes it and opens it anew; absent where what is closed is gone. */
  reopen?: () => Promise<BlockDevice>;
  /** What is to be looked at when a test has ended and the device is closed. */
  check?: () => Promise<void>;
}

export interface DeviceSubject {
  name: string;
  make(): Promise<DeviceUnderTest>;
}

type Request =
  | { kind: 'write'; at: number; length: number; durable: boolean }
  | { kind: 'zero'; at: number; length: number; keepStorage: boolean; fast: boolean }
  | { kind: 'trim'; at: number; length: number }
  | { kind: 'read'; at: number; length: number }
  | { kind: 'flush' | 'reopen' };

/** Bytes. */
const PAGE = 4096;

const at = fc.double({ min: 0, max: 1, noNaN: true });
const length = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 9000 }) },
  { weight: 2, arbitrary: fc.constantFrom(512, 4096, 65536) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 << 20 }) },
);
const request: fc.Arbitrary<Request> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('write' as const), at, length, durable: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('zero' as const),
      at,
      length,
      keepStorage: fc.boolean(),
      fast: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('trim' as const), at, length }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('read' as const), at, length }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('flush' as const, 'reopen' as const) }) },
);

/** The range of a request: any bytes, or whole blocks where the device has blocks. */
function rangeOf(device: BlockDevice, step: { at: number; length: number }): [number, number] {
  const { size, blockSize } = device;
  const start = Math.min(Math.floor(step.at * size), size - 1);
  const offset = start - (start % blockSize);
  const wanted = Math.ceil(step.length / blockSize) * blockSize;
  return [offset, Math.min(wanted, size - offset)];
}

/** Bytes that tell which write they are of, and where in it. */
function pattern(id: number, bytes: number): Buffer {
  const round = Uint8Array.from({ length: Math.min(bytes, 255) }, (_, at) => 1 + ((id * 37 + at * 11) % 255));
  return Buffer.alloc(bytes, round);
}

async function readAll(device: BlockDevice): Promise<Buffer> {
  const all = Buffer.alloc(device.size);
  for (let from = 0; from < device.size; from += 1 << 20) {
    await device.read(all.subarray(from, Math.min(device.size, from + (1 << 20))), from);
  }
  return all;
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}

/** Places of bytes that differ; what is equal is passed over by pages, because most of it is. */
function* differing(a: Buffer, b: Buffer): Generator<number> {
  for (let from = 0; from < a.length; from += PAGE) {
    const end = Math.min(from + PAGE, a.length);
    if (a.compare(b, from, end, from, end) === 0) continue;
    for (let place = from; place < end; place += 1) if (a[place] !== b[place]) yield place;
  }
}

/** The model, and which of its bytes nobody knows because they were trimmed. */
class Model {
  readonly bytes: Buffer;
  readonly #unknown: Uint8Array;

  constructor(content: Buffer) {
    this.bytes = Buffer.from(content);
    this.#unknown = new Uint8Array(content.length);
  }

  put(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, offset);
    this.#unknown.fill(0, offset, offset + bytes.length);
  }

  trim(offset: number, count: number): void {
    this.#unknown.fill(1, offset, offset + count);
  }

  /** The first byte that is not as it must be; -1 when there is none. What was trimmed is zero, or as it was. */
  difference(shown: Uint8Array, offset = 0): number {
    if (this.bytes.subarray(offset, offset + shown.length).equals(shown)) return -1;
    for (let index = 0; index < shown.length; index += 1) {
      if (shown[index] === this.bytes[offset + index]) continue;
      if (this.#unknown[offset + index] === 1 && shown[index] === 0) continue;
      return offset + index;
    }
    return -1;
  }
}

/** Runs a request on both; a device that can't do a thing says so and changes nothing. */
async function run(device: BlockDevice, model: Model, step: Request, id: number): Promise<void> {
  if (!('at' in step)) return device.flush();
  const [offset, count] = rangeOf(device, step);
  if (step.kind === 'write') {
    const bytes = pattern(id, count);
    await device.write(bytes, offset, { durable: step.durable });
    model.put(offset, bytes);
  } else if (step.kind === 'zero') {
    const { keepStorage, fast } = step;
    try {
      await device.zero(offset, count, { keepStorage, fast });
    } catch (error) {
      expect(fast).toBe(true);
      expect(error).toMatchObject({ code: 'UNSUPPORTED' });
      return;
    }
    model.put(offset, Buffer.alloc(count));
  } else if (step.kind === 'trim') {
    if (!device.capabilities.trim) return;
    await device.trim(offset, count);
    model.trim(offset, count);
  } else {
    const buffer = Buffer.alloc(count, 0xee);
    await device.read(buffer, offset);
    expect(model.difference(buffer, offset)).toBe(-1);
    const again = Buffer.alloc(count, 0xdd);
    if (device.readNow?.(again, offset)) expect(model.difference(again, offset)).toBe(-1);
  }
}

async function checkExtents(device: BlockDevice): Promise<void> {
  const all = await readAll(device);
  for (let from = 0; from < device.size; ) {
    const extents = await device.extents(from, device.size - from);
    expect(extents.length).toBeGreaterThan(0);
    for (const extent of extents) {
      expect(extent.offset).toBe(from);
      expect(extent.length).toBeGreaterThan(0);
      from += extent.length;
      if (extent.zero) expect(isZero(all.subarray(extent.offset, from))).toBe(true);
    }
    expect(from).toBeLessThanOrEqual(device.size);
  }
}

/** Closes what a test has made, whatever became of it. */
async function using(subject: DeviceSubject, test: (made: DeviceUnderTest) => Promise<void>): Promise<void> {
  const made = await subject.make();
  let device = made.device;
  const { reopen } = made;
  if (reopen) {
    made.reopen = async () => {
      device = await reopen();
      return device;
    };
  }
  try {
    await test(made);
  } finally {
    await device.close();
  }
  await made.check?.();
}

function oneByOne(subject: DeviceSubject): void {
  it('shows what was written, zeroed and trimmed, at once and after it is opened again', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 4, maxLength: 16 }), (steps) =>
        using(subject, async (made) => {
          let { device } = made;
          const model = new Model(made.content);
          for (const [id, step] of steps.entries()) {
            if (step.kind !== 'reopen') await run(device, model, step, id);
            else if (made.reopen) device = await made.reopen();
          }
          expect(model.difference(await readAll(device))).toBe(-1);
          await checkExtents(device);
          if (!made.reopen) return;
          device = await made.reopen();
          expect(model.difference(await readAll(device))).toBe(-1);
        }),
      ),
      { numRuns: 3, endOnFailure: true },
    );
  });

  it('says what is hole and zero', () => using(subject, ({ device }) => checkExtents(device)));

  it('answers now only what waiting would answer', () =>
    using(subject, async ({ device, content }) => {
      const unit = Math.max(device.blockSize, 512);
      for (let from = 0; from + unit <= device.size; from += 64 * unit) {
        const buffer = Buffer.alloc(unit, 0xaa);
        await device.read(buffer, from);
        const now = Buffer.alloc(unit, 0xbb);
        if (device.readNow?.(now, from)) expect(now.equals(buffer)).toBe(true);
        const bytes = pattern(from, unit);
        if (!device.writeNow?.(bytes, from)) await device.write(bytes, from);
        bytes.copy(content, from);
      }
      expect(new Model(content).difference(await readAll(device))).toBe(-1);
    }));
}

interface Change {
  kind: 'write' | 'zero' | 'trim';
  offset: number;
  bytes: Buffer;
}

/** Changes that overlap much: a few regions, ends anywhere. */
function changesOf(device: BlockDevice, seed: number, count: number): Change[] {
  let state = seed;
  const next = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
  const unit = device.blockSize;
  return Array.from({ length: count }, (_, id) => {
    const region = next(3) * Math.floor(device.size / 3);
    const offset = region - (region % unit) + next(64) * (unit === 1 ? 271 : unit);
    const blocks = 1 + next(unit === 1 ? 20_000 : 40);
    const size = Math.min(blocks * unit, device.size - offset);
    const luck = next(10);
    const kind = luck < 7 ? 'write' : luck < 9 || !device.capabilities.trim ? 'zero' : 'trim';
    return { kind, offset, bytes: kind === 'write' ? pattern(seed + id, size) : Buffer.alloc(size) };
  });
}

function together(device: BlockDevice, changes: readonly Change[]): Promise<unknown> {
  return Promise.all(
    changes.map(({ kind, offset, bytes }, index) => {
      if (kind === 'write') return device.write(bytes, offset, { durable: index % 7 === 0 });
      return kind === 'zero' ? device.zero(offset, bytes.length) : device.trim(offset, bytes.length);
    }),
  );
}

/** Whether a byte can be what one of the changes wrote. */
function isLegal(changes: readonly Change[], byte: number | undefined, place: number): boolean {
  return changes.some(
    ({ offset, bytes }) => place >= offset && place < offset + bytes.length && bytes[place - offset] === byte,
  );
}

/** The first byte that none of the changes left, or that shows what was there though it was changed for sure. */
function firstWrong(changes: readonly Change[], before: Buffer, shown: Buffer): number | undefined {
  const isOfOne = new Uint8Array(shown.length);
  const isChanged = new Uint8Array(shown.length);
  for (const { kind, offset, bytes } of changes) {
    if (kind !== 'trim') isChanged.fill(1, offset, offset + bytes.length);
    for (let within = 0; within < bytes.length; within += 1)
      if (bytes[within] === shown[offset + within]) isOfOne[offset + within] = 1;
  }
  for (const place of differing(shown, before)) if (isOfOne[place] === 0) return place;
  for (let place = isChanged.indexOf(1); place !== -1; place = isChanged.indexOf(1, place + 1))
    if (isOfOne[place] === 0) return place;
  return undefined;
}

function manyAtOnce(subject: DeviceSubject): void {
  it('lets overlapping requests take effect in some order, and reads see nothing else', () =>
    using(subject, async ({ device, content }) => {
      let before = content;
      for (let round = 0; round < 2; round += 1) {
        const changes = changesOf(device, 1000 * round + 7, 48);
        const reads = changes.map(({ offset, bytes }) => ({ offset, buffer: Buffer.alloc(bytes.length) }));
        const work = together(device, changes);
        await Promise.all(reads.map(({ offset, buffer }) => device.read(buffer, offset)));
        await work;
        const shown = await readAll(device);
        const wrong = firstWrong(changes, before, shown);
        if (wrong !== undefined) throw new Error(`round ${round}: the byte at ${wrong} is of no request`);
        for (const { offset, buffer } of reads) {
          for (const within of differing(buffer, before.subarray(offset, offset + buffer.length))) {
            if (!isLegal(changes, buffer[within], offset + within))
              throw new Error(`round ${round}: a read saw at ${offset + within} what was never there`);
          }
        }
        before = shown;
      }
    }));

  it('keeps every part of a sector that different requests write at once', () =>
    using(subject, async ({ device }) => {
      const { blockSize } = device;
      const part = blockSize === 1 ? 37 : blockSize;
      const start = Math.floor(device.size / 2 / blockSize) * blockSize;
      const expected = pattern(3, part * 80);
      await Promise.all(
        Array.from({ length: 80 }, (_, index) =>
          device.write(expected.subarray(index * part, (index + 1) * part), start + index * part),
        ),
      );
      const shown = Buffer.alloc(expected.length);
      await device.read(shown, start);
      expect(shown.equals(expected)).toBe(true);
    }));

  it('answers many flushes at once', () =>
    using(subject, async ({ device }) => {
      const unit = Math.max(512, device.blockSize);
      await Promise.all(
        Array.from({ length: 12 }, async (_, index) => {
          await device.write(pattern(index, unit), index * unit);
          await device.flush();
        }),
      );
      const shown = Buffer.alloc(unit);
      await device.read(shown, 11 * unit);
      expect(shown.equals(pattern(11, unit))).toBe(true);
    }));
}

function readOnly(subject: DeviceSubject): void {
  it('refuses every change', () =>
    using(subject, async ({ device, content }) => {
      const unit = Math.max(512, device.blockSize);
      const refused = { code: 'READ_ONLY' };
      await expect(device.write(Buffer.alloc(unit), 0)).rejects.toMatchObject(refused);
      await expect(device.zero(0, unit)).rejects.toMatchObject(refused);
      await expect(device.trim(0, unit)).rejects.toMatchObject(refused);
      await device.flush();
      expect(new Model(content).difference(await readAll(device))).toBe(-1);
    }));

  it('says what is hole and zero', () => using(subject, ({ device }) => checkExtents(device)));
}

/** @param kind `reading`: of a device that can't be changed */
export function blockDeviceSuite(subject: DeviceSubject, kind: 'writing' | 'reading' = 'writing'): void {
  describe(`block device contract: ${subject.name}`, () => {
    if (kind === 'reading') return readOnly(subject);
    oneByOne(subject);
    manyAtOnce(subject);
  });
}
