/**
 * Was an NTFS volume left in order? The volume's flags, the log's restart pages, hibernation.
 *
 * Invariant: a reason is given for everything that is not known to be clean. What is checked of a
 * hibernated (or fast started) Windows: the header of hiberfil.sys in the root folder, which is on the
 * system volume; the other volumes that such a Windows keeps mounted show it by their log, which is open.
 */
import { KiB } from '../../base/bytes.js';
import { reasonOf } from '../inconsistent.js';
import { viewOf } from '../volume-bytes.js';
import { FILE, type Mft } from './mft.js';
import { ATTRIBUTE, attributesOf, residentValue, signatureOf, undoFixUps } from './record.js';
import { openStream, type Stream } from './stream.js';

/** Bits of $VOLUME_INFORMATION's flags. */
const DIRTY = 0x0001;
const RESIZE_LOG = 0x0002;
const UPGRADE = 0x0004;
const CHKDSK_RUNNING = 0x4000;
const VERSIONS = ['1.2', '3.0', '3.1'];

const NO_CLIENT = 0xffff;
const VOLUME_IS_CLEAN = 0x0002;
const RESTART_PAGE = 4 * KiB;
const LOG_VERSIONS = ['1.0', '1.1', '2.0'];
/** How much of a log that was emptied is looked at. */
const EMPTY_LOG_BYTES = 256 * KiB;
const HIBERNATION_HEADER = 4 * KiB;

/** Why $Volume says that the volume is not in order; undefined when it does not. */
export async function volumeObjection(mft: Mft): Promise<string | undefined> {
  for (const attribute of attributesOf(await mft.record(FILE.volume))) {
    if (attribute.type !== ATTRIBUTE.volumeInformation || !attribute.isResident) continue;
    const value = residentValue(attribute);
    if (value.length < 12) break;
    const view = viewOf(value);
    const version = `${view.getUint8(8)}.${view.getUint8(9)}`;
    if (!VERSIONS.includes(version)) return `NTFS version ${version} is not known`;
    const flags = view.getUint16(10, true);
    if (flags & DIRTY) return 'it is marked dirty: it was not cleanly unmounted, or wants a chkdsk';
    if (flags & CHKDSK_RUNNING) return 'a chkdsk of it was not finished';
    if (flags & (RESIZE_LOG | UPGRADE)) return 'Windows has to finish a change of it first';
    return undefined;
  }
  return 'its $Volume says nothing of its state';
}

interface RestartArea {
  lsn: bigint;
  clean: boolean;
  version: string;
}

/**
 * A restart page: `RSTR`, fix-ups, system page size u32 16, restart area u16 24, version u16 26 (minor) and
 * 28 (major). The area: current LSN u64 0, clients in use u16 12 (0xFFFF: none), flags u16 14 (bit 1: clean).
 */
function decodeRestart(page: Uint8Array): RestartArea | undefined {
  if (signatureOf(page) !== 'RSTR') return undefined;
  const bytes = undoFixUps(page);
  if (!bytes) return undefined;
  const view = viewOf(bytes);
  const area = view.getUint16(24, true);
  if (view.getUint32(16, true) !== RESTART_PAGE || area < 30 || area + 48 > RESTART_PAGE) return undefined;
  const isIdle = view.getUint16(area + 12, true) === NO_CLIENT;
  return {
    lsn: view.getBigUint64(area, true),
    clean: isIdle || (view.getUint16(area + 14, true) & VOLUME_IS_CLEAN) !== 0,
    version: `${view.getUint16(28, true)}.${view.getUint16(26, true)}`,
  };
}

/** Why the log has to be replayed, or can't be judged; undefined when it is clean or empty. */
export async function logObjection(log: Stream): Promise<string | undefined> {
  if (log.size < 4 * RESTART_PAGE) return 'its log is too short';
  const head = await log.read(0, 2 * RESTART_PAGE);
  if (head[0] === 0xff) {
    const start = await log.read(0, Math.min(log.size, EMPTY_LOG_BYTES));
    return start.every((byte) => byte === 0xff) ? undefined : 'its log is damaged';
  }
  const first = decodeRestart(head.subarray(0, RESTART_PAGE));
  const second = decodeRestart(head.subarray(RESTART_PAGE));
  if (!first || !second) return 'the restart pages of its log are damaged';
  const unknown = [first, second].find(({ version }) => !LOG_VERSIONS.includes(version));
  if (unknown) return `its log has version ${unknown.version}, which is not known`;
  // With the same number both have to say so.
  const newest = [first, second].filter(({ lsn }) => lsn >= first.lsn && lsn >= second.lsn);
  if (newest.every(({ clean }) => clean)) return undefined;
  return 'its log was not closed: it was not cleanly unmounted, or Windows is hibernated (fast start-up)';
}

/**
 * Does a hiberfil.sys mean that Windows goes on with the volume? Anything but zeros counts, `wake` too:
 * Windows offers to go on from such a file. One shorter than its header, or that can't be read, counts.
 * @param number its file record
 */
export async function isHibernated(mft: Mft, number: number): Promise<boolean> {
  try {
    const content = await openStream(mft, await mft.record(number), ATTRIBUTE.data);
    if (!content || content.size < HIBERNATION_HEADER) return true;
    return (await content.read(0, HIBERNATION_HEADER)).some((byte) => byte !== 0);
  } catch (error) {
    if (reasonOf(error) === undefined) throw error;
    return true;
  }
}
