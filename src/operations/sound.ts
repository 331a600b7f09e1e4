/**
 * Whether an image is fit to be changed by work that goes by its tables.
 */
import { VhdkitError } from '../base/errors.js';
import type { EditableImage } from '../formats/editable-image.js';

/**
 * Refuses images whose tables contradict themselves: moving by them would destroy what could still be saved.
 * @throws IMAGE_CORRUPT
 */
export async function assertSound(image: EditableImage): Promise<void> {
  const fatal = (await image.check()).find(({ severity }) => severity === 'error');
  if (!fatal) return;
  const { path } = image.file;
  throw new VhdkitError('IMAGE_CORRUPT', `${path}: ${fatal.message}`, {
    operation: 'check image',
    context: { path, defect: fatal.code, ...(fatal.offset === undefined ? {} : { offset: fatal.offset }) },
    hint: 'Look at it with `vhdkit check`; nothing was changed.',
  });
}
