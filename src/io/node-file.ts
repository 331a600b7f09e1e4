/**
 * A file or block device of the system.
 *
 * Invariant: every failure names the file and the place. Native calls (holes, punching) are used where
 * they are there and replaced by plain reading and writing where not, so behaviour never depends on them.
 *
 * Descriptor calls go through node:fs with callbacks rather than FileHandle: several times cheaper per call.
 */
import * as fs from 'node:fs';
import { assertBytes } from '../base/assert.js';
import { fromSystemError, VhdkitError } from '../base/errors.js';
import { Errno, errnoError, nativeCalls } from '../native/native.js';
import type { ByteRange, FileFingerprint, FileKind, RandomAccessFile } from './random-access-file.js';

/** One system call moves at most this much (Linux stops at 2 GiB − 4 KiB). */
const MAX_IO = 1024 * 1024 * 1024;
const ZEROS = new Uint8Array(1024 * 1024);

function call<T>(start: (done: (error: NodeJS.ErrnoException | null, value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)));
  });
}

export class NodeFile implements RandomAccessFile {
  readonly path: string;
  readonly kind: FileKind;
  readonly writable: boolean;
  #fd: number | undefined;
  /** Known length; of files that others may grow it is only a lower bound, hence `size()` asks anew. */
  readonly #deviceSize: number | undefined;
  /** False once the storage said that it has no writes without waiting. */
  #pokes = true;

  constructor(path: string, fd: number, kind: FileKind, writable: boolean, deviceSize?: number) {
    this.path = path;
    this.kind = kind;
    this.writable = writable;
    this.#fd = fd;
    this.#deviceSize = deviceSize;
  }

  get fd(): number {
    if (this.#fd === undefined) {
      throw new VhdkitError('IO_FAILED', `${this.path} is closed`, { context: { path: this.path } });
    }
    return this.#fd;
  }

  size(): number {
    if (this.#deviceSize !== undefined) return this.#deviceSize;
    return this.#guardSync('read the size of', {}, () => fs.fstatSync(this.fd).size);
  }

  async read(buffer: Uint8Array, offset: number): Promise<number> {
    assertBytes(offset, 'offset');
    let done = 0;
    let missing = false;
    while (done < buffer.length) {
      const length = Math.min(buffer.length - done, MAX_IO);
      const count = await this.#guard('read', offset + done, length, () =>
        call<number>((cb) => fs.read(this.fd, buffer, done, length, offset + done, cb)),
      );
      if (count === 0) {
        if (offset + done >= this.size()) break;
        // It may have grown a moment ago.
        if (missing) throw this.#nothingAt(offset + done);
      }
      missing = count === 0;
      done += count;
    }
    return done;
  }

  /** Whoever reads takes for zeros what a file does not have, so nothing may be missing before its end. */
  #nothingAt(offset: number): VhdkitError {
    return new VhdkitError('IO_FAILED', `${this.path} gave no bytes at ${offset}, which is not its end`, {
      operation: `read ${this.path}`,
      context: { path: this.path, offset },
      hint: 'The storage does not answer as it should: look at it (system log, mount) before trying again.',
    });
  }

  async write(buffer: Uint8Array, offset: number): Promise<void> {
    assertBytes(offset, 'offset');
    this.#assertInsideDevice(offset, buffer.length);
    let done = 0;
    while (done < buffer.length) {
      const length = Math.min(buffer.length - done, MAX_IO);
      done += await this.#guard('write', offset + done, length, () =>
        call<number>((cb) => fs.write(this.fd, buffer, done, length, offset + done, cb)),
      );
    }
  }

  async zero(offset: number, length: number): Promise<void> {
    assertBytes(offset, 'offset');
    assertBytes(length, 'length');
    if (length === 0) return;
    this.#assertInsideDevice(offset, length);
    // Grown by writing its last byte: setting the length could cut off what others append meanwhile.
    if (this.kind === 'file' && offset + length > this.size()) {
      await this.write(ZEROS.subarray(0, 1), offset + length - 1);
    }
    // Freeing is tried first; storage that can't punch holes answers with an error and gets zeros written.
    if ((await nativeCalls()?.punchHole(this.fd, offset, length)) === 0) return;
    for (let at = 0; at < length; at += ZEROS.length) {
      await this.write(ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), offset + at);
    }
  }

  async punch(offset: number, length: number): Promise<boolean> {
    assertBytes(offset, 'offset');
    assertBytes(length, 'length');
    return length > 0 && (await nativeCalls()?.punchHole(this.fd, offset, length)) === 0;
  }

  async zeroInPlace(offset: number, length: number): Promise<boolean> {
    assertBytes(offset, 'offset');
    assertBytes(length, 'length');
    return length > 0 && (await nativeCalls()?.zeroRange(this.fd, offset, length)) === 0;
  }

  async truncate(size: number): Promise<void> {
    assertBytes(size, 'size');
    if (this.kind === 'device') {
      throw new VhdkitError('UNSUPPORTED', `${this.path} is a device: its size can't be changed`, {
        operation: 'set the size',
        context: { path: this.path, length: size },
      });
    }
    await this.#guard('set the size of', size, 0, () => call<void>((cb) => fs.ftruncate(this.fd, size, cb)));
  }

  async flush(): Promise<void> {
    await this.#guard('flush', 0, 0, () => call<void>((cb) => fs.fsync(this.fd, cb)));
  }

  nextData(offset: number, end: number): ByteRange | undefined {
    if (offset >= end) return undefined;
    const native = this.kind === 'file' ? nativeCalls() : undefined;
    const everything = { offset, length: end - offset };
    if (!native) return everything;
    const start = native.seekData(this.fd, offset);
    // ENXIO: nothing but a hole up to the end of the file. Other errors: no such knowledge here.
    if (start < 0) return start === -ENXIO ? undefined : everything;
    if (start >= end) return undefined;
    const stop = native.seekHole(this.fd, start);
    return { offset: start, length: (stop < 0 ? end : Math.min(stop, end)) - start };
  }

  peek(buffer: Uint8Array, offset: number): boolean {
    return nativeCalls()?.readCached(this.fd, buffer, offset) === buffer.length;
  }

  poke(buffer: Uint8Array, offset: number): boolean {
    if (!this.#pokes) return false;
    const count = nativeCalls()?.writeCached(this.fd, buffer, offset) ?? -Errno.EOPNOTSUPP;
    if (count === -Errno.EOPNOTSUPP) this.#pokes = false;
    return count === buffer.length;
  }

  writeHere(buffer: Uint8Array, offset: number): boolean {
    try {
      return fs.writeSync(this.fd, buffer, 0, buffer.length, offset) === buffer.length;
    } catch {
      return false;
    }
  }

  async writeBehind(offset: number, length: number): Promise<void> {
    // Whether it worked does not matter: `flush` is what counts.
    await nativeCalls()?.startWriteback(this.fd, offset, length);
  }

  async allocate(offset: number, length: number): Promise<void> {
    assertBytes(offset, 'offset');
    assertBytes(length, 'length');
    // A device has its storage already, as far as anybody can tell.
    if (length === 0 || this.kind === 'device') return;
    const errno = (await nativeCalls()?.allocate(this.fd, offset, length)) ?? Errno.EOPNOTSUPP;
    if (errno === 0) return;
    if (errno === Errno.ENOSPC || errno === Errno.EDQUOT || errno === Errno.EFBIG) {
      throw fromSystemError(errnoError(errno, 'fallocate'), `reserve storage for ${this.path}`, {
        path: this.path,
        offset,
        length,
      });
    }
    await this.#fillHoles(offset, offset + length);
  }

  /** The same by writing zeros, for storage that can't reserve. */
  async #fillHoles(offset: number, end: number): Promise<void> {
    for (let at = offset; at < end; ) {
      const data = this.nextData(at, end);
      const stop = data ? data.offset : end;
      for (; at < stop; at += Math.min(ZEROS.length, stop - at)) {
        await this.write(ZEROS.subarray(0, Math.min(ZEROS.length, stop - at)), at);
      }
      at = data ? data.offset + data.length : end;
    }
    if (this.size() < end) await this.write(ZEROS.subarray(0, 1), end - 1);
  }

  async allocatedBytes(): Promise<number> {
    if (this.kind === 'device') return this.size();
    return this.#guardSync('read the size of', {}, () => fs.fstatSync(this.fd).blocks * 512);
  }

  fingerprint(): FileFingerprint | undefined {
    if (this.kind === 'device') return undefined;
    const stat = this.#guardSync('read the times of', {}, () => fs.fstatSync(this.fd, { bigint: true }));
    return { device: stat.dev, inode: stat.ino, size: stat.size, mtime: stat.mtimeNs, ctime: stat.ctimeNs };
  }

  async close(): Promise<void> {
    const fd = this.#fd;
    if (fd === undefined) return;
    this.#fd = undefined;
    await call<void>((cb) => fs.close(fd, cb)).catch((error: unknown) => {
      throw fromSystemError(error, `close ${this.path}`, { path: this.path });
    });
  }

  #assertInsideDevice(offset: number, length: number): void {
    if (this.#deviceSize === undefined || offset + length <= this.#deviceSize) return;
    throw new VhdkitError('TARGET_TOO_SMALL', `${this.path} ends at ${this.#deviceSize} bytes`, {
      operation: 'write',
      context: { path: this.path, offset, length },
    });
  }

  async #guard<T>(verb: string, offset: number, length: number, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw fromSystemError(error, `${verb} ${this.path}`, { path: this.path, offset, length });
    }
  }

  #guardSync<T>(verb: string, context: object, run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw fromSystemError(error, `${verb} ${this.path}`, { path: this.path, ...context });
    }
  }
}

/** errno of Linux for "no data there", from SEEK_DATA. */
const ENXIO = 6;
