/** The `snapshot` commands as text. */
import type {
  SnapshotCreateResult,
  SnapshotDeleteResult,
  SnapshotFacts,
  SnapshotListResult,
  SnapshotRestoreResult,
} from '../../operations/snapshot/types.js';
import { printable, type Style } from './style.js';
import { durationText, type Field, fieldLines, sizeText } from './text.js';

const REASONS: Record<string, string> = {
  'copy-failed': 'a chunk that it needs could not be kept',
  damaged: 'what was kept of it is damaged',
  'device-lost': 'its write-once device, or a newer one, is gone',
  'image-changed': 'the image was changed by something else than vhdkit',
};

const IMAGES: Record<string, string | undefined> = {
  changed: 'changed by something else than vhdkit since its snapshots were made: they are lost',
  'not-closed': 'was not closed properly (a killed process): its snapshots are as they were',
  'in-use': 'in use; ask its server with --control to change snapshots',
};

function timeText(time: number): string {
  return `${new Date(time).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

function some(bytes: number): string | undefined {
  return bytes > 0 ? sizeText(bytes) : undefined;
}

function snapshotLine(facts: SnapshotFacts, style: Style): string {
  const { name, created, state, reason, kind, allocatedBytes } = facts;
  const storage = allocatedBytes === null ? 'not readable' : sizeText(allocatedBytes);
  const broken = reason === null ? '' : `: ${REASONS[reason] ?? reason}`;
  const standing = state === 'intact' ? style.green(state) : style.red(`${state}${broken}`);
  return `${style.bold(printable(name))} ${timeText(created)}, ${kind} ${storage}, ${standing}`;
}

function volumeLine(volume: SnapshotFacts, style: Style): string {
  const line = snapshotLine(volume, style);
  return volume.state === 'intact' ? `${line}, can be written to` : line;
}

/** What to do about those that can't be read: the newest of them is what is in the way. */
function lostNote({ path, snapshots }: SnapshotListResult): string[] {
  const newest = snapshots.findLast(({ state }) => state === 'lost');
  if (!newest) return [];
  const [device, name] = [printable(newest.device), printable(newest.name)];
  return [
    `lost: put ${device} back, or give up '${name}' and all older ones: vhdkit snapshot delete ${printable(path)} ${name}`,
  ];
}

export function renderSnapshotList(result: SnapshotListResult, style: Style): string[] {
  const { path, snapshots, image, restoring, volume } = result;
  const note = IMAGES[image];
  return [
    ...(snapshots.length === 0 && volume === null
      ? [`No snapshots of ${style.bold(printable(path))}`]
      : snapshots.map((facts) => snapshotLine(facts, style))),
    ...(volume === null ? [] : [volumeLine(volume, style)]),
    ...lostNote(result),
    ...(restoring === null ? [] : [`half-way back to ${printable(restoring)}: restore it again to finish`]),
    ...(note === undefined ? [] : [`image: ${note}`]),
  ];
}

export function renderSnapshotCreate(result: SnapshotCreateResult, style: Style): string[] {
  const { path, snapshot, chunkSize, lost, dryRun } = result;
  const fields: Field[] = [
    ['device', `${snapshot.kind}, ${printable(snapshot.device)}`],
    ['chunks', sizeText(chunkSize)],
    [
      'lost',
      lost.length === 0 ? undefined : `${lost.map(printable).join(', ')}: ${REASONS['image-changed']}`,
    ],
  ];
  const deed = dryRun ? 'Would make' : 'Made';
  const head = `${deed} snapshot ${style.bold(printable(snapshot.name))} of ${style.bold(printable(path))}`;
  return [head, ...fieldLines(fields, style)];
}

export function renderSnapshotRestore(result: SnapshotRestoreResult, style: Style): string[] {
  const { path, snapshot, kept, restored, bytes, elapsedMs, dryRun } = result;
  const fields: Field[] = [
    [dryRun ? 'to put back' : 'put back', sizeText(restored)],
    ['shared', some(bytes.shared)],
    ['copied in kernel', some(bytes.kernelCopied)],
    ['read and written', some(bytes.buffered)],
    ['zero', some(bytes.zeroed)],
    ['kept as', kept === null ? undefined : printable(kept)],
    ['time', dryRun ? undefined : durationText(elapsedMs)],
  ];
  const deed = dryRun ? 'Would put' : 'Put';
  const head = `${deed} ${style.bold(printable(path))} back to ${style.bold(printable(snapshot))}`;
  return [head, ...fieldLines(fields, style)];
}

export function renderSnapshotDelete(result: SnapshotDeleteResult, style: Style): string[] {
  const { path, snapshots, moved, elapsedMs, dryRun } = result;
  const fields: Field[] = [
    ['moved to older ones', some(moved)],
    ['time', dryRun ? undefined : durationText(elapsedMs)],
  ];
  const names = snapshots.length === 0 ? 'no snapshots' : snapshots.map(printable).join(', ');
  const deed = dryRun ? 'Would delete' : 'Deleted';
  return [`${deed} ${style.bold(names)} of ${printable(path)}`, ...fieldLines(fields, style)];
}
