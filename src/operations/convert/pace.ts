/**
 * A conversion's limit of bytes per second, for sessions and for streams.
 *
 * A stream is limited where it enters or leaves; what goes straight through is counted once.
 */
import type { RateLimit } from '../../offload/rate-limit.js';
import type { ConvertOptions } from './types.js';

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
