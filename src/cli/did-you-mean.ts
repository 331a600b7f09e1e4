/**
 * From what people type to what exists: words of Hyper-V, qemu-img, VirtualBox and dd, typing mistakes,
 * and commands that are planned but not there yet.
 *
 * Invariant: a command counts as "not there yet" only while it is missing from the list of commands, so
 * nothing here has to change when it arrives, except that flags leave FLAG_HINTS.
 */
import { UsageError } from './usage-error.js';

const PLANNED = ['migrate', 'replicate'];

/** Words of other tools, in lower case, and the command that does it here. */
const SYNONYMS: Record<string, string> = {
  'get-vhd': 'info',
  'new-vhd': 'create',
  'convert-vhd': 'convert',
  'test-vhd': 'check',
  'optimize-vhd': 'compact',
  'merge-vhd': 'merge',
  'resize-vhd': 'resize',
  'resize-virtualdisk': 'resize',
  'set-vhd': 'rebase',
  'mount-vhd': 'serve',
  'dismount-vhd': 'serve',
  'checkpoint-vm': 'snapshot',
  amend: 'convert',
  autocomplete: 'completion',
  cat: 'read',
  clone: 'convert',
  clonehd: 'convert',
  clonemedium: 'convert',
  cmp: 'compare',
  coalesce: 'merge',
  commit: 'merge',
  copy: 'convert',
  cp: 'convert',
  createmedium: 'create',
  dd: 'convert',
  diff: 'compare',
  extents: 'map',
  fsck: 'check',
  list: 'info',
  measure: 'convert',
  modifymedium: 'resize',
  mount: 'serve',
  new: 'create',
  repair: 'check',
  show: 'info',
  showmediuminfo: 'info',
  shrink: 'compact',
  verify: 'compare',
};

/** Words that one command's name does not answer. */
const SENTENCES: Record<string, string> = {
  measure: 'Did you mean `vhdkit convert SOURCE TARGET --dry-run`? It forecasts what would be written.',
  dd: 'Did you mean `vhdkit convert` (a whole disk) or `vhdkit read --offset --length` (a part of it)?',
};

/** What to type instead of a flag that does not exist; names in lower case. */
const FLAG_HINTS: Record<string, string> = {
  '--parent': 'A parent is named with `vhdkit create --parent` or `vhdkit rebase --parent`.',
  '--resume': 'An interrupted `vhdkit convert` goes on with --resume; run other commands again as they were.',
  '--profile': 'Did you mean --for (convert)? `vhdkit check --profile` checks an image that is there.',
  '--zero': 'Did you mean --zeros scan?',
  '--output': 'Did you mean --json (for --output=json) or -O (for the target format)?',
  '--sizebytes': 'The size is an argument: `vhdkit resize disk.vhdx 64G`, `vhdkit create disk.vhdx 64G`.',
  '--resize': 'Did you mean `vhdkit resize IMAGE SIZE`?',
  '--preallocation':
    'Did you mean --type fixed? `vhdkit convert IMAGE --in-place --type fixed` reserves all storage.',
  '--whatif': 'Did you mean --dry-run?',
  '--format': 'Did you mean -f/--from (source) or -O/--to (target)?',
  '--subformat': 'Did you mean --type dynamic|fixed?',
  '--vhdtype': 'Did you mean --type dynamic|fixed?',
  '--blocksizebytes': 'Did you mean --block-size?',
  '--ignoreidmismatch': 'Did you mean --ignore-id-mismatch (of rebase --relink)?',
  '--parentpath': 'Did you mean --parent?',
  '--leafpath': 'The child is the argument: `vhdkit rebase CHILD --parent PARENT`.',
  '-b': 'Did you mean --parent?',
  '-u': 'Did you mean --relink, which changes the link alone?',
  '-o': 'Options of qemu-img have flags of their own: --type dynamic|fixed, --block-size SIZE. For the format: -O.',
  '-p': 'Progress is shown on a terminal by itself; see --progress.',
  '-s': 'Did you mean --strict?',
};

/** What to type instead of a flag that does not exist. */
export function flagHint(flag: string): string | undefined {
  const name = flag.replace(/=.*$/s, '');
  return FLAG_HINTS[name] ?? FLAG_HINTS[name.toLowerCase()];
}

/** Edits (insert, delete, replace, swap of neighbours) that lead from one word to the other. */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min((row[j - 1] ?? 0) + 1, (last[j] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

function nearest(word: string, candidates: readonly string[]): string | undefined {
  const limit = word.length <= 4 ? 1 : 2;
  const ranked = candidates
    .map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .filter(({ candidate, distance }) => distance <= limit || (word.length > 2 && candidate.startsWith(word)))
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.candidate;
}

/** The error for a topic without a command, or with one that it does not have. */
function unknownMember(topic: string, typed: string | undefined, members: readonly string[]): UsageError {
  const meant = typed === undefined ? undefined : nearest(typed.toLowerCase(), members);
  const message = typed === undefined ? `'${topic}' takes a command` : `'${topic}' has no command '${typed}'`;
  const hint = meant ? `Did you mean \`vhdkit ${topic} ${meant}\`?` : `There are: ${members.join(', ')}.`;
  return new UsageError(message, hint);
}

/** The error for a command that does not exist; `commands` are those that do. `second`: the word after it. */
export function unknownCommand(typed: string, commands: readonly string[], second?: string): UsageError {
  const word = typed.toLowerCase();
  const members = commands.filter((id) => id.startsWith(`${word}:`)).map((id) => id.slice(word.length + 1));
  if (members.length > 0) return unknownMember(word, second, members);
  const known = [...new Set(commands.map((id) => id.split(':')[0] ?? id))];
  const all = [...new Set([...known, ...PLANNED])];
  const cmdlets = Object.keys(SYNONYMS).filter((name) => name.includes('-'));
  const near = SYNONYMS[word] ? word : nearest(word, [...all, ...cmdlets]);
  const meant = near === undefined ? undefined : (SYNONYMS[near] ?? near);
  const message = `There is no command '${typed}'`;
  if (meant === undefined) return new UsageError(message, 'See `vhdkit --help` for the commands there are.');
  if (!known.includes(meant)) {
    const which = meant === word ? `'${meant}'` : `'${typed}' would be '${meant}', which`;
    return new UsageError(`${which} is not there yet`, 'See `vhdkit --help` for the commands there are.');
  }
  return new UsageError(message, SENTENCES[word] ?? `Did you mean \`vhdkit ${meant}\`?`);
}
