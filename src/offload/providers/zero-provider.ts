/**
 * The zero provider: makes ranges read as zeros, by freeing storage where the target can.
 *
 * It takes zero tokens, and the part of any other token that lies past its end; data it can't do.
 */
import { throwIfAborted, VhdkitError } from '../../base/errors.js';
import type { OffloadProvider } from '../offload-provider.js';
import { assertWritable, holdToken, unsupported } from '../provider-base.js';
import type { TokenManager } from '../token-manager.js';
import { partOfToken } from '../token-reader.js';

const MAX_LENGTH = 1024 * 1024 * 1024;

export function zeroProvider(manager: TokenManager): OffloadProvider {
  return {
    id: 'zero',
    capabilities: () => ({ supported: true, alignment: 1, maxLength: MAX_LENGTH }),
    async offloadRead(file, range, options) {
      if (options.mode === 'zero') return [await manager.bind(file, range, options)];
      throw new VhdkitError('UNSUPPORTED', 'The zero provider makes tokens for zeros only', {
        operation: 'bind token',
        context: { path: file.path, offset: range.offset, length: range.length },
      });
    },
    async offloadWrite({ token, tokenOffset, target, targetOffset, length, signal }) {
      throwIfAborted(signal, 'offload write');
      assertWritable(target);
      return manager.use(token, async (resolved) => {
        const part = partOfToken(resolved, tokenOffset, Math.min(length, MAX_LENGTH));
        if (part.kind === 'data') return unsupported('the token stands for data', 'range');
        await target.zero(targetOffset, part.length);
        return { status: 'done', length: part.length };
      });
    },
    hold: (token) => holdToken(manager, token),
  };
}
