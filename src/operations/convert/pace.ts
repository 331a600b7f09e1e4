/**
 * A conversion's limit of bytes per second, for sessions and for streams.
 *
 * A stream is limited where it enters or leaves; what goes straight through is counted once.
 */
import { VhdkitError } from '../../base/errors.js';
import { RateLimit } from '../../offload/rate-limit.js';
import type { Host } from '../host.js';
import type { ConvertOptions } from './types.js';

/** @throws INVALID_ARGUMENT for a rate that would never end */
export function rateLimitOf(host: Host, { rate }: ConvertOptions): RateLimit | undefined {
  if (rate === undefined) return undefined;
  if (rate > 0) return new RateLimit(rate, host.timer);
  throw new VhdkitError('INVALID_ARGUMENT', `A conversion can't go on at ${rate} bytes per second`, {
    operation: 'convert image',
    hint: 'Give a rate such as 50M, or leave it away for no limit.',
  });
}

async function* pacedInput(
  input: AsyncIterable<Uint8Array>,
  limit: RateLimit,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of input) {
    await limit.take(chunk.length, signal);
    yield chunk;
  }
}

/** The options with their streams kept to the limit. */
export function paced(options: ConvertOptions, limit: RateLimit): ConvertOptions {
  const { input, output, signal } = options;
  if (input) return { ...options, input: pacedInput(input, limit, signal) };
  if (!output) return options;
  return {
    ...options,
    output: {
      async write(bytes) {
        await limit.take(bytes.length, signal);
        await output.write(bytes);
      },
    },
  };
}
