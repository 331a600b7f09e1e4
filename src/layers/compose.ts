/**
 * From opened images to devices: the one place that knows the layers and puts them on top of each other.
 *
 * Invariant: a device that is composed here takes its images with it: closing it closes them.
 *
 * Not here: opening images, locks (operations).
 */
import type { Timer } from '../base/timer.js';
import type { BlockDevice } from '../block/block-device.js';
import { GuardedDevice } from '../block/guarded-device.js';
import type { Chain } from '../formats/chain.js';
import type { EditableImage } from '../formats/editable-image.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import { ChainDevice } from './image/chain-device.js';
import { FileDevice } from './image/file-device.js';
import { ImageDevice } from './image/image-device.js';
import { OverlayDevice } from './image/overlay-device.js';

export interface ComposeOptions {
  timer: Timer;
  /** Milliseconds after which changes are flushed without being asked. */
  flushAfter: number;
}

/** A chain that is read only. */
export function readingDevice(chain: Chain, options: ComposeOptions): BlockDevice {
  const { top } = chain;
  if (top.format !== 'raw') return new ChainDevice(chain);
  const close = (): Promise<void> => chain.close();
  return new FileDevice(top.file, { ...options, size: top.virtualSize, writable: false, close });
}

/** A chain whose top is changed. `close` closes its images and gives back their locks. */
export function writingDevice(
  opened: { chain: Chain; top: EditableImage; close(): Promise<void> },
  options: ComposeOptions,
): BlockDevice {
  const { chain, top } = opened;
  const close = (): Promise<void> => opened.close();
  if (top.format === 'raw') return new FileDevice(top.file, { ...options, size: top.virtualSize, close });
  return new ImageDevice(chain, top, { ...options, close });
}

/** What is written goes into the scratch file, which must be empty and is worth nothing afterwards. */
export function scratchDevice(below: BlockDevice, scratch: RandomAccessFile, timer: Timer): BlockDevice {
  return new OverlayDevice(new GuardedDevice(below, { readOnly: true }), scratch, timer);
}
