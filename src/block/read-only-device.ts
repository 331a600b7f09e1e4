/**
 * The half of a block device that refuses: what devices that are only read have in common.
 */
import type { VhdkitError } from '../base/errors.js';

export abstract class ReadOnlyDevice {
  /** READ_ONLY, with what to do instead. */
  protected abstract refusal(): VhdkitError;

  async write(): Promise<void> {
    throw this.refusal();
  }

  async zero(): Promise<void> {
    throw this.refusal();
  }

  async trim(): Promise<void> {
    throw this.refusal();
  }

  async flush(): Promise<void> {}
}
