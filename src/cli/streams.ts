/**
 * `-` on the command line: stdin as the source of a conversion, stdout as its target.
 *
 * Invariant: stdout gets the image and nothing else; neither end is ever a terminal. A stop (Ctrl-C) ends
 * waiting for either end at once.
 */
import { isatty } from 'node:tty';
import { VhdkitError } from '../base/errors.js';
import type { FormatId } from '../formats/disk-image.js';
import type { ByteSink, ConvertOptions } from '../operations/convert.js';
import { writeOut } from './output.js';
import { STDIN, stdinChunks } from './stdin.js';
import { UsageError } from './usage-error.js';

/** The flags that matter for streams. */
export interface StreamFlags {
  from?: FormatId | undefined;
  to?: FormatId | undefined;
  provider: string;
  json: boolean;
  resume: boolean;
  verify: boolean;
  for?: string | undefined;
  'snapshot-source': boolean;
  'dry-run': boolean;
  size?: number | undefined;
  'temp-dir'?: string | undefined;
}

type Streams = Pick<ConvertOptions, 'input' | 'inputSize' | 'tempDir' | 'output'>;

/**
 * What the operation is given for `-`.
 * @throws UsageError for terminals, and for flags that make no sense with a stream
 */
export function streamsOf(source: string, target: string, flags: StreamFlags, signal: AbortSignal): Streams {
  const streams: Streams = {};
  if (source === '-') {
    judgeInput(flags);
    streams.input = stdinChunks(signal);
    if (flags.size !== undefined) streams.inputSize = flags.size;
    if (flags['temp-dir'] !== undefined) streams.tempDir = flags['temp-dir'];
  } else if (flags.size !== undefined || flags['temp-dir'] !== undefined) {
    const name = flags.size === undefined ? '--temp-dir' : '--size';
    throw new UsageError(`${name} is only for a source that comes from stdin`, `Leave ${name} out.`);
  }
  if (target === '-') {
    judgeOutput(flags);
    streams.output = stoppableStdout(signal);
  }
  return streams;
}

function judgeInput(flags: StreamFlags): void {
  if (isatty(STDIN)) {
    throw new UsageError(
      'convert does not read a disk from a terminal',
      'Send one in: `< FILE`, or `COMMAND | vhdkit convert - TARGET`. A file of that name is written ./-',
    );
  }
  for (const flag of ['resume', 'snapshot-source', 'dry-run'] as const) {
    if (flags[flag]) {
      throw new UsageError(
        `--${flag} needs a source that can be read again, not stdin`,
        `Leave --${flag} out.`,
      );
    }
  }
  if (flags.size === undefined) return;
  if (flags.from !== 'raw') {
    throw new UsageError(
      '--size is for raw disks: other formats say themselves how large they are',
      'Add -f raw.',
    );
  }
  if (flags.size === 0) throw new UsageError('A disk has more than 0 bytes', 'Correct --size.');
}

function judgeOutput(flags: StreamFlags): void {
  if (flags.to === undefined && flags.for === undefined) {
    throw new UsageError('For stdout the format must be said', 'Add -O raw, -O vhd or -O vhdx.');
  }
  if (flags.verify) {
    throw new UsageError(
      'A stream to stdout cannot be read back',
      'Leave --verify out, and compare where the image ends up: `vhdkit compare`.',
    );
  }
  if (flags.resume) throw new UsageError('A stream to stdout cannot be resumed', 'Leave --resume out.');
  if (flags.provider === 'reflink' || flags.provider === 'kernel') {
    throw new UsageError(
      'Bytes for stdout are read and written, nothing else is possible',
      'Leave --provider out.',
    );
  }
  if (flags['dry-run']) return;
  if (flags.json) {
    throw new UsageError(
      'stdout carries the image, so there is no place for JSON',
      'Leave --json out; `--dry-run --json` tells beforehand what would be written.',
    );
  }
  if (process.stdout.isTTY) {
    throw new UsageError(
      'convert does not write an image to a terminal',
      'Send it somewhere: `> FILE`, or `| COMMAND`.',
    );
  }
}

/** stdout, with waits for its reader that end when we are asked to stop. */
function stoppableStdout(signal: AbortSignal): ByteSink {
  let stop: () => void = () => {};
  signal.addEventListener('abort', () => stop(), { once: true });
  return {
    write: (bytes) =>
      new Promise((resolve, reject) => {
        stop = () => reject(cancelled(signal));
        if (signal.aborted) stop();
        else writeOut(bytes).then(resolve, reject);
      }),
  };
}

function cancelled(signal: AbortSignal): VhdkitError {
  const operation = 'write to stdout';
  return new VhdkitError('CANCELLED', `Cancelled: ${operation}`, { operation, cause: signal.reason });
}
