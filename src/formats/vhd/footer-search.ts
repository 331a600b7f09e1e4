/**
 * Finds the footer of a VHD and decides which copy to trust.
 *
 * Invariant: a footer is used only with its cookie, a known version and type, and a sane size; a copy with
 * a right checksum goes before one without, and at equal merit the one at the end goes first (it is what
 * Windows uses). A footer at offset 0 counts only for dynamic and differencing disks: at the beginning of
 * a fixed disk the guest can write what it likes.
 *
 * Deliberately not here: file access. Callers hand in the bytes, so that the probe stays pure.
 */
import type { Finding } from '../finding.js';
import { type DefectPlace, finding, vhdError } from './defects.js';
import {
  cookieOf,
  DISK_TYPE,
  decodeFooter,
  FOOTER_BYTES,
  FOOTER_COOKIE,
  FOOTER_FIELD,
  type FooterProblem,
  footerChecksumOk,
  judgeFooter,
  NO_OFFSET,
  POISON_COOKIE,
  type VhdFooter,
} from './footer.js';

/** `end511`: a legacy footer of 511 bytes at the end. */
export type FooterWhere = 'end' | 'end511' | 'start';

export interface FooterCopy {
  where: FooterWhere;
  /** Byte offset in the file. */
  offset: number;
  footer: VhdFooter;
  checksumOk: boolean;
  poisoned: boolean;
  /** Undefined when the values can be used. */
  problem: FooterProblem | undefined;
}

/** Every copy that shows a cookie. */
export interface FooterCopies {
  end: FooterCopy | undefined;
  start: FooterCopy | undefined;
}

const LEGACY_BYTES = FOOTER_BYTES - 1;

function copyAt(bytes: Uint8Array, where: FooterWhere, offset: number): FooterCopy | undefined {
  const cookie = cookieOf(bytes);
  const poisoned = cookie === POISON_COOKIE;
  if (cookie !== FOOTER_COOKIE && !poisoned) return undefined;
  const footer = decodeFooter(bytes);
  return {
    where,
    offset,
    footer,
    poisoned,
    checksumOk: footerChecksumOk(bytes),
    problem: judgeFooter(footer),
  };
}

function endCopy(tail: Uint8Array, fileSize: number): FooterCopy | undefined {
  if (tail.length >= FOOTER_BYTES && fileSize >= FOOTER_BYTES) {
    const copy = copyAt(tail.subarray(tail.length - FOOTER_BYTES), 'end', fileSize - FOOTER_BYTES);
    if (copy) return copy;
  }
  if (tail.length < LEGACY_BYTES || fileSize % FOOTER_BYTES !== LEGACY_BYTES) return undefined;
  const padded = new Uint8Array(FOOTER_BYTES);
  padded.set(tail.subarray(tail.length - LEGACY_BYTES));
  return copyAt(padded, 'end511', fileSize - LEGACY_BYTES);
}

function startCopy(head: Uint8Array): FooterCopy | undefined {
  if (head.length < FOOTER_BYTES) return undefined;
  const copy = copyAt(head.subarray(0, FOOTER_BYTES), 'start', 0);
  const type = copy?.footer.diskType;
  return type === DISK_TYPE.dynamic || type === DISK_TYPE.differencing ? copy : undefined;
}

/**
 * The footer copies in the first and last bytes of a file.
 * Source: VHD specification 1.0, "Hard Disk Footer Format" (footer, copy, and the 511-byte footer of
 * versions before Virtual PC 2004).
 */
export function findFooters(head: Uint8Array, tail: Uint8Array, fileSize: number): FooterCopies {
  return { end: endCopy(tail, fileSize), start: startCopy(head) };
}

/** A footer with a wrong checksum that nevertheless describes this very file as a fixed disk. */
function describesFixed(copy: FooterCopy): boolean {
  const { footer, offset, problem } = copy;
  return (
    problem === undefined &&
    footer.diskType === DISK_TYPE.fixed &&
    footer.dataOffset === NO_OFFSET &&
    footer.currentSize === BigInt(offset)
  );
}

/** The copy to trust; undefined when none can be used. Poison is not looked at. */
export function preferredFooter({ end, start }: FooterCopies): FooterCopy | undefined {
  // A right checksum over values we refuse is a statement, not damage: no fallback to the other copy.
  if (end?.checksumOk) return end.problem ? undefined : end;
  if (end && describesFixed(end)) return end;
  if (start?.checksumOk && !start.problem) return start;
  if (end && !end.problem) return end;
  return start && !start.problem ? start : undefined;
}

function refusePoisoned(copy: FooterCopy, path: string): never {
  throw vhdError(
    'UNSUPPORTED',
    'VHD_POISONED',
    `the image was disabled on purpose (cookie '${POISON_COOKIE}')`,
    {
      path,
      offset: copy.offset,
      hint: 'A XenServer storage manager marked it as unusable, usually during garbage collection. Use the image that replaced it.',
    },
  );
}

function refuseAll({ end, start }: FooterCopies, path: string, fileSize: number): never {
  const copy = end ?? start;
  const place: DefectPlace = { path, offset: Math.max(0, fileSize - FOOTER_BYTES) };
  if (!copy?.problem) {
    throw vhdError(
      'IMAGE_CORRUPT',
      'VHD_FOOTER_MISSING',
      'no VHD footer, neither at the end nor at the beginning',
      place,
    );
  }
  const { code, defect, message, field } = copy.problem;
  throw vhdError(code, defect, message, { path, offset: copy.offset + field });
}

function disagreements(a: VhdFooter, b: VhdFooter): string[] {
  const names: string[] = [];
  if (a.currentSize !== b.currentSize) names.push('size');
  if (a.diskType !== b.diskType) names.push('type');
  if (Buffer.compare(a.uniqueId, b.uniqueId) !== 0) names.push('unique id');
  if (a.dataOffset !== b.dataOffset) names.push('data offset');
  return names;
}

function usable(copy: FooterCopy | undefined): copy is FooterCopy {
  return copy?.checksumOk === true && copy.problem === undefined;
}

/** What is odd about the copies, given the one that is used. */
function footerFindings(chosen: FooterCopy, copies: FooterCopies, fileSize: number): Finding[] {
  const { end, start } = copies;
  const findings: Finding[] = [];
  const endAt = end?.offset ?? Math.max(0, fileSize - FOOTER_BYTES);
  if (chosen.where === 'start') {
    const state = end ? 'damaged' : 'missing';
    findings.push(
      finding(
        'VHD_FOOTER_DAMAGED',
        'warning',
        `the footer at the end is ${state}; its copy at the beginning is used`,
        endAt,
        true,
      ),
    );
  } else if (chosen.footer.diskType !== DISK_TYPE.fixed) {
    if (!usable(start)) {
      findings.push(
        finding(
          'VHD_FOOTER_COPY_DAMAGED',
          'warning',
          'the copy of the footer at the beginning is damaged or missing',
          0,
          true,
        ),
      );
    } else {
      const fields = disagreements(chosen.footer, start.footer);
      if (fields.length > 0) {
        findings.push(
          finding(
            'VHD_FOOTER_COPIES_DIFFER',
            'warning',
            `both footers are valid but differ in ${fields.join(', ')}; the one at the end is used`,
            0,
            true,
          ),
        );
      }
    }
  }
  if (!chosen.checksumOk) {
    const at = chosen.offset + FOOTER_FIELD.checksum;
    findings.push(finding('VHD_FOOTER_CHECKSUM', 'warning', 'the checksum of the footer is wrong', at, true));
  }
  if (chosen.where === 'end511') {
    findings.push(
      finding('VHD_FOOTER_LEGACY', 'note', 'the footer has 511 bytes, as old programs wrote it', endAt, true),
    );
  }
  return findings;
}

/**
 * The footer to use, and what is odd about it and its copy.
 * @throws IMAGE_CORRUPT (no usable footer), UNSUPPORTED (poisoned, reserved type, unknown version)
 */
export function chooseFooter(
  copies: FooterCopies,
  path: string,
  fileSize: number,
): { copy: FooterCopy; findings: Finding[] } {
  const { end, start } = copies;
  const fixed = end !== undefined && !end.poisoned && end.footer.diskType === DISK_TYPE.fixed;
  if (end?.poisoned) refusePoisoned(end, path);
  if (start?.poisoned && !fixed) refusePoisoned(start, path);
  const copy = preferredFooter(copies) ?? refuseAll(copies, path, fileSize);
  return { copy, findings: footerFindings(copy, copies, fileSize) };
}
