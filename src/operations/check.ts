/**
 * `check`: what is wrong or remarkable about an image, its parents, and for a platform.
 *
 * Invariant: reads only. A defect that keeps the image from being opened is a finding like any other, so
 * is a parent that is missing or wrong; only what keeps us from looking (no such file, a failed read, a
 * format without anything to check) is an error.
 *
 * Rules of a platform that are broken count like defects of the image: an image that the platform rejects
 * is of no use to whoever asks with a profile.
 */
import { isVhdkitError, VhdkitError } from '../base/errors.js';
import { Chain, type LinkStatus, MAX_CHAIN_DEPTH, resolveParent } from '../formats/chain.js';
import type {
  DiskImage,
  CheckOptions as FormatCheckOptions,
  FormatId,
  ImageType,
} from '../formats/disk-image.js';
import type { Finding, Severity } from '../formats/finding.js';
import { openImage } from '../formats/registry.js';
import { type FileIdentity, sameFile } from '../io/file-system.js';
import { layoutAdvice, sizeAdvice } from './check/advice.js';
import type { Host, ProgressSink } from './host.js';
import { contentsOf } from './profiles/contents.js';
import { PROFILES } from './profiles/profiles.js';
import { type ImageFacts, judge, type Profile, type ProfileName } from './profiles/rule.js';

export interface CheckOptions {
  path: string;
  format?: FormatId;
  profile?: ProfileName;
  signal?: AbortSignal;
  /** Of the image being looked at; units of its format's own. */
  progress?: ProgressSink;
}

export interface CheckFinding extends Finding {
  /** The file of the chain that it is about. */
  path: string;
  /** What to do about it. */
  hint: string;
  /** Of a profile's rule: why the platform wants it, and where that is written. */
  reason?: string;
  source?: string;
}

export interface CheckResult {
  path: string;
  /** Null when the image can't be opened. */
  format: FormatId | null;
  type: ImageType | null;
  virtualSize: number | null;
  profile?: ProfileName;
  /** `corrupt` with a finding of severity error, else `leaks` with a leak. */
  verdict: 'clean' | 'leaks' | 'corrupt';
  /** The parents that were looked for, nearest first. */
  parents: { path: string; status: LinkStatus }[];
  findings: CheckFinding[];
  repaired: CheckFinding[];
}

/** Nothing to check, or a variant that can't be looked into; `stage` decides the exit code. */
export class CheckUnsupported extends VhdkitError {
  readonly stage = 'unsupported';

  constructor(message: string, path: string, hint: string, cause?: unknown) {
    super('UNSUPPORTED', message, { operation: 'check', context: { path }, hint, cause });
  }
}

const HINTS: Readonly<Record<Severity, string>> = {
  error: 'Restore the image from a backup; `vhdkit read` gives what is still readable.',
  warning: 'The contents are readable; `vhdkit convert` writes a sound copy.',
  leak: 'Harmless; `vhdkit check --repair leaks` gives the space back.',
  note: 'Nothing has to be done.',
};

const REPAIR_HINT = '`vhdkit check --repair all` puts it right; with --dry-run it says how.';

const SALVAGE_HINT =
  'Restore the image from a backup; without one, `vhdkit check --repair all` keeps what can be read and lists what it drops.';

function hintFor({ severity, repairable }: Finding): string {
  if (!repairable || severity === 'leak' || severity === 'note') return HINTS[severity];
  return severity === 'error' ? SALVAGE_HINT : REPAIR_HINT;
}

/** The images of a chain as far as they can be opened, and what is wrong with them. */
class Examination {
  readonly images: DiskImage[] = [];
  readonly parents: CheckResult['parents'] = [];
  readonly findings: CheckFinding[] = [];
  /** True when every parent was found. */
  complete = false;
  readonly #seen: FileIdentity[] = [];
  readonly #host: Host;
  readonly #following: FormatCheckOptions;

  constructor(host: Host, { signal, progress }: CheckOptions) {
    this.#host = host;
    this.#following = {
      ...(signal ? { signal } : {}),
      ...(progress ? { onProgress: (done, total) => progress.update(done, total) } : {}),
    };
  }

  add(path: string, finding: Finding, hint?: string): void {
    const same = (other: CheckFinding): boolean =>
      other.path === path && other.code === finding.code && other.offset === finding.offset;
    if (!this.findings.some(same)) this.findings.push({ ...finding, path, hint: hint ?? hintFor(finding) });
  }

  /** An error that says something about the image becomes a finding; others are thrown. */
  addError(error: unknown, path: string): void {
    if (!isVhdkitError(error) || error.code !== 'IMAGE_CORRUPT') throw error;
    const { defect, offset } = error.context;
    const finding: Finding = {
      code: defect ?? error.code,
      severity: 'error',
      message: error.message.replace(`${path}: `, ''),
      repairable: false,
    };
    if (offset !== undefined) finding.offset = offset;
    this.add(path, finding, error.hint);
  }

  linkProblem(path: string, code: string, message: string, hint: string): void {
    this.add(path, { code, severity: 'error', message, repairable: false }, hint);
  }

  async examine(image: DiskImage): Promise<void> {
    this.images.push(image);
    const { path } = image.file;
    for (const finding of image.warnings) this.add(path, finding);
    try {
      for (const finding of await image.check(this.#following)) this.add(path, finding);
      const isSound = !this.findings.some((each) => each.path === path && each.severity === 'error');
      if (isSound) for (const advice of await layoutAdvice(image)) this.add(path, advice, advice.hint);
    } catch (error) {
      this.addError(error, path);
    }
  }

  /** Looks at every parent that can be found, nearest first. */
  async followParents(): Promise<void> {
    for (;;) {
      const image = this.images.at(-1);
      if (!image?.parentLink) {
        this.complete = image !== undefined;
        return;
      }
      if (!(await this.#isNew(image))) return;
      const found = await resolveParent(this.#host.fileSystem, image);
      this.parents.push({ path: found.path, status: found.status });
      const { path } = image.file;
      switch (found.status) {
        case 'matches':
          await this.examine(found.image);
          for (const advice of sizeAdvice(image, found.image)) this.add(path, advice, advice.hint);
          break;
        case 'missing':
          return this.linkProblem(
            path,
            'PARENT_MISSING',
            `its parent '${found.path}' was not found`,
            'Put the parent into the folder of the child, or restore it at the path named.',
          );
        case 'mismatch':
          return this.linkProblem(
            path,
            'PARENT_MISMATCH',
            `'${found.path}' is not the parent it was made from: ${found.reason}`,
            'Find the original parent; one that was changed since does not fit any more.',
          );
        case 'unreadable':
          return this.addError(found.cause, found.path);
      }
    }
  }

  /** False, with a finding, when the chain comes back to an image or does not end. */
  async #isNew(image: DiskImage): Promise<boolean> {
    const { path } = image.file;
    const identity = await this.#host.fileSystem.identity(path);
    const again = identity !== undefined && this.#seen.some((other) => sameFile(other, identity));
    if (identity) this.#seen.push(identity);
    const hint = 'One of the links is wrong; find the parent it was made from.';
    if (again) this.linkProblem(path, 'PARENT_LOOP', 'it is its own ancestor', hint);
    const tooDeep = this.images.length >= MAX_CHAIN_DEPTH;
    if (tooDeep)
      this.linkProblem(
        path,
        'CHAIN_TOO_DEEP',
        `more than ${MAX_CHAIN_DEPTH} images depend on each other`,
        hint,
      );
    return !again && !tooDeep;
  }

  async close(): Promise<void> {
    for (const image of this.images) await image.close();
  }
}

/** What vhd-lib objects to. Asked only when our own check is content: vhd-lib believes sizes. */
async function vhdLibComplaint(image: DiskImage): Promise<string | undefined> {
  const { openWithVhdLib } = await import('./verify-vhd-lib.js');
  try {
    const disk = await openWithVhdLib(image.file);
    if (disk.virtualSize === image.virtualSize) return undefined;
    return `it sees a disk of ${disk.virtualSize} bytes`;
  } catch (error) {
    if (isVhdkitError(error)) throw error;
    return (error instanceof Error ? error.message : String(error)).split('\n').join(' ');
  }
}

async function factsOf(profile: Profile, examination: Examination, top: DiskImage): Promise<ImageFacts> {
  const own = examination.findings.filter(({ path }) => path === top.file.path);
  const sound = own.every(({ severity }) => severity !== 'error');
  const facts: ImageFacts = {
    format: top.format,
    type: top.type,
    virtualSize: top.virtualSize,
    fileSize: top.file.size(),
    logicalSectorSize: top.logicalSectorSize,
    log: top.log,
    defects: own.map(({ code }) => code),
  };
  if (top.blockSize !== undefined) facts.blockSize = top.blockSize;
  if (sound && examination.complete)
    facts.contents = await contentsOf(new Chain(examination.images), top.logicalSectorSize);
  if (profile.asksVhdLib && sound && top.format === 'vhd' && top.type !== 'fixed') {
    const complaint = await vhdLibComplaint(top);
    if (complaint !== undefined) facts.vhdLibComplaint = complaint;
  }
  return facts;
}

function verdictOf(findings: readonly Finding[]): CheckResult['verdict'] {
  if (findings.some(({ severity }) => severity === 'error')) return 'corrupt';
  return findings.some(({ severity }) => severity === 'leak') ? 'leaks' : 'clean';
}

/** Opens the image itself; undefined, with a finding, when its structures do not allow that. */
async function openTop(
  host: Host,
  options: CheckOptions,
  examination: Examination,
): Promise<DiskImage | undefined> {
  const file = await host.fileSystem.open(options.path);
  try {
    return await openImage(file, options.format ? { format: options.format } : {});
  } catch (error) {
    if (isVhdkitError(error) && error.code === 'UNSUPPORTED')
      throw new CheckUnsupported(error.message, options.path, error.hint ?? "It can't be checked.", error);
    examination.addError(error, options.path);
    return undefined;
  }
}

/**
 * @throws NOT_FOUND, PERMISSION_DENIED, FORMAT_UNKNOWN, IO_FAILED; CheckUnsupported for a raw image
 *   without a profile and for variants that are not supported
 */
export async function check(host: Host, options: CheckOptions): Promise<CheckResult> {
  const { path } = options;
  const profile = options.profile === undefined ? undefined : PROFILES[options.profile];
  const examination = new Examination(host, options);
  try {
    const top = await openTop(host, options, examination);
    if (top) {
      await examination.examine(top);
      if (top.format === 'raw' && !profile) {
        const hint = 'With --profile NAME the disk is checked against the rules of a platform.';
        throw new CheckUnsupported(`${path} is a raw image: it has no structures to check`, path, hint);
      }
      await examination.followParents();
      if (profile) {
        const facts = await factsOf(profile, examination, top);
        for (const finding of judge(profile, facts)) examination.add(path, finding, finding.hint);
      }
    }
    const { findings, parents } = examination;
    return {
      path,
      format: top?.format ?? null,
      type: top?.type ?? null,
      virtualSize: top?.virtualSize ?? null,
      ...(options.profile === undefined ? {} : { profile: options.profile }),
      verdict: verdictOf(findings),
      parents,
      findings,
      repaired: [],
    };
  } finally {
    await examination.close();
  }
}
