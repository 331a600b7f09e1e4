/**
 * Whether an image is fit to be read or changed by work that goes by its tables.
 */
import { VhdkitError } from '../base/errors.js';
import type { DiskImage } from '../formats/disk-image.js';
import type { Finding } from '../formats/finding.js';

/**
 * Refuses an image whose tables contradict themselves: moving by them would destroy what could still be saved,
 * and a copy would be damaged too. Answers what is odd, but harmless.
 * @throws IMAGE_CORRUPT
 */
export async function assertSound(
  image: DiskImage,
  hint = 'Look at it with `vhdkit check`; nothing was changed.',
): Promise<Finding[]> {
  const findings = [...image.warnings, ...(await image.check())];
  const fatal = findings.find(({ severity }) => severity === 'error');
  if (!fatal) return findings;
  const { path } = image.file;
  throw new VhdkitError('IMAGE_CORRUPT', `${path}: ${fatal.message}`, {
    operation: 'check image',
    context: { path, defect: fatal.code, ...(fatal.offset === undefined ? {} : { offset: fatal.offset }) },
    hint,
  });
}
