/**
 * Writing results to stdout: text, one JSON document, or bytes.
 *
 * Invariant: a write has left this process's hands when its promise resolves, so a slow reader slows us
 * down instead of filling memory, and the caller may reuse the buffer. A reader that went away ends the
 * command quietly (OutputClosed); any other failure to write is an IO_FAILED error.
 */
import { fromSystemError, systemCode } from '../base/errors.js';

/** Version of all JSON shapes; raised only when a field is renamed or changes its meaning. */
export const SCHEMA_VERSION = 1;

/** Nobody reads stdout any more (`vhdkit map x | head`). */
export class OutputClosed extends Error {
  constructor() {
    super('Nobody reads the output any more');
    this.name = 'OutputClosed';
  }
}

/** A failure after the document was begun: it is in the document already. */
export class ReportedInDocument extends Error {
  constructor(cause: unknown) {
    super('Reported in the JSON document', { cause });
  }
}

/**
 * Failed writes are reported through the write's callback; without a listener the same failure would
 * also end the process with a stack trace. oclif's own listener, which rethrows, is taken off.
 */
export function guardStreams(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.removeAllListeners('error');
    stream.on('error', () => {});
  }
}

function outputError(error: Error): Error {
  const closed = ['EPIPE', 'EOF', 'ERR_STREAM_DESTROYED'].includes(systemCode(error) ?? '');
  return closed ? new OutputClosed() : fromSystemError(error, 'write to stdout', {});
}

/** @throws OutputClosed, IO_FAILED, NO_SPACE */
export function writeOut(chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(chunk, (error) => (error ? reject(outputError(error)) : resolve()));
  });
}

/**
 * Ends the process although stdout still has bytes for a reader that takes none. Only after a signal: whoever
 * asked us to stop does not want to wait for that reader.
 */
export async function endIfStuck(): Promise<void> {
  if (process.stdout.writableLength === 0) return;
  await new Promise<void>((resolve) => {
    process.stderr.write('', () => resolve());
  });
  process.exit();
}

/** Prints the one JSON document of a command. */
export function writeJson(result: object): Promise<void> {
  return writeOut(`${JSON.stringify({ schemaVersion: SCHEMA_VERSION, ...result }, null, 2)}\n`);
}

/** Collects small pieces of text into larger writes. Call `flush` at the end. */
export class TextWriter {
  #pending = '';

  async write(text: string): Promise<void> {
    this.#pending += text;
    if (this.#pending.length >= 64 * 1024) await this.flush();
  }

  async flush(): Promise<void> {
    const text = this.#pending;
    this.#pending = '';
    if (text) await writeOut(text);
  }
}
