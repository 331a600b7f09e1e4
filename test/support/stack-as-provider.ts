/**
 * A stack of providers behind the provider contract, so that the suite for providers can be run on it.
 *
 * Writing takes one token, as the contract has it: whoever of the stack takes it does as much as it can.
 */
import { isVhdkitError } from '../../src/base/errors.js';
import type { OffloadProvider, OffloadWriteRequest } from '../../src/offload/offload-provider.js';
import type { ProviderStack } from '../../src/offload/stack/provider-stack.js';
import { tokensOf } from '../../src/offload/stack/provider-stack.js';
import { offloadReadAll } from '../../src/offload/stack/requestor-read.js';
import { offloadWriteAll } from '../../src/offload/stack/requestor-write.js';
import { TokenSet } from '../../src/offload/token-set.js';

export function stackAsProvider(stack: ProviderStack): OffloadProvider {
  const [first] = stack.members;
  if (!first) throw new Error('an empty stack');
  const provider = tokensOf(first);
  return {
    id: first.provider.id,
    // The last one does what the others can't.
    capabilities: (source, target) => {
      const all = stack.members.map((member) => member.provider.capabilities(source, target));
      return all.filter(({ supported }) => supported).at(-1) ?? first.provider.capabilities(source, target);
    },
    async offloadRead(file, range, { mode, ttl }) {
      if (mode === 'zero') return first.provider.offloadRead(file, range, { mode, ttl });
      const set = await offloadReadAll(stack, file, range, { mode, ttl });
      return set.parts.flatMap(({ offset, length, choices }) =>
        choices.slice(0, 1).map(({ token, tokenOffset }) => ({
          token,
          tokenOffset,
          offset: range.offset + offset,
          length,
        })),
      );
    },
    async offloadWrite({ token, tokenOffset, target, targetOffset, length, signal }: OffloadWriteRequest) {
      const set = TokenSet.of([{ length, choices: [{ provider, token, tokenOffset }] }]);
      try {
        await offloadWriteAll(stack, set, target, targetOffset, signal ? { signal } : {});
        return { status: 'done', length };
      } catch (error) {
        if (!isVhdkitError(error) || error.code !== 'OFFLOAD_UNSUPPORTED') throw error;
        const done = Number(error.context.done);
        return done > 0 ? { status: 'done', length: done } : { status: 'unsupported', reason: error.message };
      }
    },
    ...(first.provider.hold ? { hold: first.provider.hold.bind(first.provider) } : {}),
  };
}
