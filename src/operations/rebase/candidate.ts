/**
 * What a parent must be for a given child, whoever asks for it.
 */
import { VhdkitError } from '../../base/errors.js';
import { Chain, MAX_CHAIN_DEPTH, walkChain } from '../../formats/chain.js';
import type { DiskImage } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import { type FileSystem, sameFile } from '../../io/file-system.js';

/** @throws UNSUPPORTED when the image has no parent at all */
export function assertDifferencing(image: DiskImage): void {
  if (image.parentLink) return;
  const { path } = image.file;
  throw new VhdkitError('UNSUPPORTED', `${path} is not a differencing image: it has no parent`, {
    operation: 'rebase',
    context: { path, type: image.type },
    hint: 'Make a child of the other image instead: `vhdkit create CHILD --type differencing --parent IMAGE`.',
  });
}

/** @throws UNSUPPORTED when the candidate can't be a parent of the child, whatever it holds */
export function assertFits(child: DiskImage, candidate: DiskImage): void {
  const { path } = candidate.file;
  const refuse = (what: string, hint: string): VhdkitError =>
    new VhdkitError('UNSUPPORTED', `${path} can't be the parent of ${child.file.path}: ${what}`, {
      operation: 'rebase',
      context: { path: child.file.path, parent: path },
      hint,
    });
  if (candidate.format !== child.format) {
    const hint = `Convert it first: \`vhdkit convert IMAGE NEW -O ${child.format}\`.`;
    throw refuse(`it is a ${candidate.format} image, the child a ${child.format} image`, hint);
  }
  if (candidate.logicalSectorSize !== child.logicalSectorSize) {
    const { logicalSectorSize: theirs } = candidate;
    const { logicalSectorSize: ours } = child;
    const hint = 'Name a parent with the same logical sector size.';
    throw refuse(`its sectors have ${theirs} bytes, the child's ${ours}`, hint);
  }
}

function loop(child: DiskImage, candidate: string): VhdkitError {
  const { path } = child.file;
  return new VhdkitError('PARENT_LOOP', `${candidate} depends on ${path}, so it can't be its parent`, {
    operation: 'rebase',
    context: { path, parent: candidate },
    hint: 'Name an image that is not the child itself or made from it.',
  });
}

/** @throws PARENT_LOOP, CHAIN_TOO_DEEP */
export async function assertNoLoop(fileSystem: FileSystem, child: DiskImage, parents: Chain): Promise<void> {
  const mine = await fileSystem.identity(child.file.path);
  for (const { file } of parents.images) {
    const other = await fileSystem.identity(file.path);
    if (mine && other && sameFile(mine, other)) throw loop(child, parents.top.file.path);
  }
  if (parents.images.length >= MAX_CHAIN_DEPTH) {
    throw new VhdkitError('CHAIN_TOO_DEEP', `${parents.top.file.path} has too many parents already`, {
      operation: 'rebase',
      context: { path: child.file.path, depth: parents.images.length },
    });
  }
}

/**
 * The same for a candidate whose own chain may be broken: as far as it goes.
 * @throws PARENT_LOOP, CHAIN_TOO_DEEP
 */
export async function assertNoLoopAsFarAsKnown(
  fileSystem: FileSystem,
  child: DiskImage,
  candidate: DiskImage,
): Promise<void> {
  const { path } = candidate.file;
  const { images } = await walkChain(fileSystem, path, { format: candidate.format });
  const found = new Chain(images);
  try {
    await assertNoLoop(fileSystem, child, found);
  } finally {
    await found.close();
  }
}

/**
 * Where the child itself lies, whatever link led to it: relative paths begin there for everybody who opens
 * it by its own name.
 */
export async function placeOf(fileSystem: FileSystem, child: DiskImage): Promise<string> {
  const { path } = child.file;
  return (await fileSystem.realPath?.(path)) ?? path;
}

/** What is odd about a parent that is taken all the same. */
export function remarks(child: DiskImage, parent: DiskImage): Finding[] {
  const found: Finding[] = [];
  const add = (code: string, message: string): void => {
    found.push({ code, severity: 'warning', message, repairable: false });
  };
  if (child.format === 'vhdx' && child.id !== parent.id) {
    add(
      'PARENT_DISK_ID',
      `The parent's virtual disk id is ${parent.id}, the child's ${child.id}: they were made for different disks`,
    );
  }
  if (parent.virtualSize > child.virtualSize) {
    add(
      'PARENT_LARGER',
      `The parent has ${parent.virtualSize} bytes, the child ${child.virtualSize}: the rest is not shown`,
    );
  }
  return found;
}
