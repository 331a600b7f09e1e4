/**
 * Relink: only what a child says of its parent is changed; no content is read, neither the child's nor a
 * parent's.
 *
 * Invariants: without being told otherwise, a parent is taken only by the id that the child expects; a
 * refusal says everything that differs. A link that is right in all its parts is left as it is.
 */
import { dirname, sep } from 'node:path';
import { VhdkitError } from '../../base/errors.js';
import { type ParentResolution, resolveParent } from '../../formats/chain.js';
import type { DiskImage } from '../../formats/disk-image.js';
import type { EditableImage } from '../../formats/editable-image.js';
import type { Finding } from '../../formats/finding.js';
import { firstChoice, parentBaseName } from '../../formats/parent-path.js';
import { openImage } from '../../formats/registry.js';
import { type FileSystem, sameFile } from '../../io/file-system.js';
import { NOTHING_MOVED } from '../bytes-moved.js';
import { openForEditing } from '../editing.js';
import type { Host } from '../host.js';
import { parentLinkTo } from '../parent-link.js';
import { assertDifferencing, assertFits, assertNoLoopAsFarAsKnown, placeOf, remarks } from './candidate.js';
import type { RebaseOptions, RebaseResult } from './types.js';

/** Throws as `rebase` does. */
export async function relink(host: Host, options: RebaseOptions): Promise<RebaseResult> {
  const started = host.clock.now();
  const { fileSystem } = host;
  const { path, format, dryRun = false } = options;
  const editing = await openForEditing(host, path, format ? { format } : {});
  try {
    const child = editing.image;
    assertDifferencing(child);
    const parent = await openParent(fileSystem, child, options.parent);
    try {
      assertFits(child, parent);
      await assertNoLoopAsFarAsKnown(fileSystem, child, parent);
      const idMatched = isExpected(child, parent);
      if (!idMatched && !options.ignoreIdMismatch) throw mismatch(child, parent);
      const previousParent = child.parentLink?.candidates[0]?.path ?? '';
      const linkChanged = !idMatched || !(await isUpToDate(fileSystem, child, parent));
      if (linkChanged && !dryRun) {
        await child.setParent(parentLinkTo(await placeOf(fileSystem, child), parent));
      }
      return {
        path,
        format: child.format,
        parent: parent.file.path,
        previousParent,
        relink: true,
        linkChanged,
        idMatched,
        compared: 0,
        pulled: 0,
        bytes: NOTHING_MOVED,
        warnings: [...(idMatched ? [] : [ignored(child, parent)]), ...remarks(child, parent)],
        elapsedMs: host.clock.now() - started,
        dryRun,
      };
    } finally {
      await parent.close();
    }
  } finally {
    await editing.close();
  }
}

/** The image named, or the one that the child's own paths lead to. */
async function openParent(
  fileSystem: FileSystem,
  child: EditableImage,
  named: string | undefined,
): Promise<DiskImage> {
  if (named !== undefined) return openImage(await fileSystem.open(named));
  const found = await resolveParent(fileSystem, child);
  if (found.status === 'matches') return found.image;
  throw await notFound(fileSystem, child, found);
}

async function notFound(
  fileSystem: FileSystem,
  child: DiskImage,
  found: Exclude<ParentResolution, { status: 'matches' }>,
): Promise<VhdkitError> {
  const { path } = child.file;
  const operation = 'rebase';
  switch (found.status) {
    case 'missing':
      return new VhdkitError('PARENT_MISSING', `${path}: its parent '${found.path}' was not found`, {
        operation,
        context: { path, parent: found.path, tried: found.tried },
        hint: `Say where '${parentBaseName(found.path)}' is: \`vhdkit rebase CHILD --relink --parent PARENT\`.`,
      });
    case 'mismatch': {
      const candidate = await openImage(await fileSystem.open(found.path));
      try {
        return mismatch(child, candidate);
      } finally {
        await candidate.close();
      }
    }
    case 'unreadable':
      return new VhdkitError(found.cause.code, `${path}: its parent can't be read: ${found.cause.message}`, {
        operation,
        context: { ...found.cause.context, child: path },
        cause: found.cause,
        hint: found.cause.hint ?? 'Repair the parent, or name another one with --parent.',
      });
  }
}

function isExpected(child: DiskImage, parent: DiskImage): boolean {
  return parent.linkId !== undefined && (child.parentLink?.acceptedIds.includes(parent.linkId) ?? false);
}

/** Everything that speaks against the parent, as one sentence. */
function difference(child: DiskImage, parent: DiskImage): string {
  const expected = child.parentLink?.acceptedIds.join(' or ') ?? '';
  const found = parent.linkId ?? 'none';
  const facts: string[] = [];
  if (child.format === 'vhdx') {
    facts.push(`its DataWriteGuid is ${found}, the child expects ${expected}`);
    facts.push(
      child.id === parent.id
        ? `both belong to the disk ${child.id}, so it was probably written to after the child was made`
        : `its virtual disk id is ${parent.id}, the child's ${child.id}, so it is probably another disk`,
    );
  } else {
    facts.push(`its unique id is ${found}, the child expects ${expected}`);
  }
  if (parent.virtualSize !== child.virtualSize) {
    facts.push(`it has ${parent.virtualSize} bytes, the child ${child.virtualSize}`);
  }
  return facts.join('; ');
}

function mismatch(child: DiskImage, parent: DiskImage): VhdkitError {
  const { path } = child.file;
  return new VhdkitError(
    'PARENT_MISMATCH',
    `${path} was not made from ${parent.file.path}: ${difference(child, parent)}`,
    {
      operation: 'rebase',
      context: {
        path,
        parent: parent.file.path,
        expected: child.parentLink?.acceptedIds ?? [],
        found: parent.linkId ?? '',
      },
      hint: 'Find the original. If this one is meant all the same, add --ignore-id-mismatch: the child then shows its content.',
    },
  );
}

function ignored(child: DiskImage, parent: DiskImage): Finding {
  const message = `The child was not made from this parent: ${difference(child, parent)}`;
  return { code: 'PARENT_ID_IGNORED', severity: 'warning', message, repairable: false };
}

/** True when all stored paths that mean anything here lead to the parent, and there is one. */
async function isUpToDate(fileSystem: FileSystem, child: DiskImage, parent: DiskImage): Promise<boolean> {
  const wanted = await fileSystem.identity(parent.file.path);
  const folder = dirname(await placeOf(fileSystem, child));
  let known = 0;
  for (const candidate of child.parentLink?.candidates ?? []) {
    const path = firstChoice([candidate], folder, sep === '\\');
    if (path === undefined) continue;
    known += 1;
    const found = await fileSystem.identity(path);
    if (!found || !wanted || !sameFile(found, wanted)) return false;
  }
  return known > 0;
}
