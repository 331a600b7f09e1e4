/**
 * The checker behind test/tidy.test.ts: pure functions from source text to complaints.
 *
 * Invariant: a complaint names the file, what is wrong and what to do instead. The checker itself is
 * tested on made-up sources, so it can't go blind unnoticed.
 */
import path from 'node:path';
import ts from 'typescript';

export interface Source {
  /** Relative to the project root, with forward slashes. */
  path: string;
  text: string;
}

export interface Import {
  /** As written. */
  specifier: string;
  /** Path of the imported source, for relative imports. */
  target: string | undefined;
  typeOnly: boolean;
}

export const MAX_FILE_LINES = 500;
export const MAX_FUNCTION_LINES = 70;

/** What each folder of src may import, besides itself. `cli` has more rules below. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  native: ['base'],
  io: ['base', 'native'],
  block: ['base', 'native', 'io'],
  formats: ['base', 'native', 'io', 'block'],
  offload: ['base', 'native', 'io', 'block'],
  guestfs: ['base', 'native', 'io', 'block'],
  nbd: ['base', 'native', 'io', 'block'],
  replication: ['base', 'native', 'io', 'block'],
  layers: ['base', 'native', 'io', 'block', 'formats', 'offload', 'guestfs', 'nbd', 'replication'],
  operations: [
    'base',
    'native',
    'io',
    'block',
    'formats',
    'offload',
    'guestfs',
    'nbd',
    'replication',
    'layers',
  ],
  cli: ['base', 'operations'],
  '': ['base', 'io', 'block', 'formats', 'offload', 'guestfs', 'nbd', 'replication', 'layers', 'operations'],
};

/** Folders whose members are siblings, what they share, and the files that alone may know them. */
const SIBLINGS: readonly {
  folder: string;
  /** Each member is a folder; else each file is one. */
  nested: boolean;
  shared: readonly string[];
  knownBy: readonly string[];
}[] = [
  { folder: 'src/formats', nested: true, shared: [], knownBy: ['src/formats/registry.ts'] },
  {
    folder: 'src/offload/providers',
    nested: false,
    shared: [],
    knownBy: ['src/offload/provider-set.ts'],
  },
  {
    folder: 'src/offload/store',
    nested: false,
    shared: ['token-store', 'store-errors', 'record-codec', 'limits', 'open'].map(
      (name) => `src/offload/store/${name}.ts`,
    ),
    // The manager's default, and the one place that knows them all.
    knownBy: ['src/offload/token-manager.ts', 'src/offload/store/open.ts'],
  },
  {
    // Readers of free space; the map asks them all, and a superblock tells a disk without a table.
    folder: 'src/guestfs',
    nested: true,
    shared: ['src/guestfs/ext/superblock.ts'],
    knownBy: ['src/guestfs/free-space-map.ts'],
  },
  {
    folder: 'src/layers',
    nested: true,
    shared: [],
    knownBy: [
      'src/layers/registry.ts',
      'src/layers/compose.ts',
      'src/layers/snapshots.ts',
      'src/layers/volumes.ts',
    ],
  },
];

/** Libraries that only some folders may use. */
const CONFINED: readonly { library: RegExp; folders: readonly string[]; files?: readonly string[] }[] = [
  { library: /^koffi$/, folders: ['native'] },
  { library: /^(node:)?fs(\/promises)?$/, folders: ['io'] },
  {
    library: /^(node:)?(net|tls|http|https|dgram)$/,
    folders: ['nbd', 'replication'],
    // Node reads a pipe into a buffer of one's own only through a Socket.
    files: ['src/io/stream-stdin.ts'],
  },
  { library: /^(@oclif\/.*|chalk|cli-progress|ansis)$/, folders: ['cli'] },
  {
    // Loaded by two: tokens, and maps of numbers for everybody else.
    library: /^lmdb$/,
    folders: [],
    files: [
      'src/io/lmdb-map.ts',
      ...['store', 'files', 'index'].map((part) => `src/offload/store/lmdb-${part}.ts`),
    ],
  },
];

/** Libraries that at most one file may import, so that doing without them is one file's business. */
const ONE_FILE_ONLY = [/^vhd-lib/, /^@nats-io\//, /^koffi$/];

/** Calls that belong to the edge of the program, and what to use below it. */
const BANNED: readonly { call: string; instead: string; except: readonly string[] }[] = [
  { call: 'Date.now', instead: 'an injected Clock', except: ['src/base/clock.ts'] },
  { call: 'new Date', instead: 'an injected Clock', except: [] },
  { call: 'Math.random', instead: 'an injected RandomSource', except: [] },
  { call: 'console', instead: 'a result that cli/ renders', except: [] },
  { call: 'process.exit', instead: 'an error', except: [] },
];

/** `formats` for src/formats/vhd/footer.ts; empty for files directly in src. */
function folderOf(file: string): string {
  return file.split('/').length > 2 ? (file.split('/')[1] ?? '') : '';
}

/** Every rule walks every file: each is parsed once. */
const parsed = new WeakMap<Source, ts.SourceFile>();

function parse(source: Source): ts.SourceFile {
  let file = parsed.get(source);
  if (!file) {
    file = ts.createSourceFile(source.path, source.text, ts.ScriptTarget.ES2022, true);
    parsed.set(source, file);
  }
  return file;
}

function visit(node: ts.Node, action: (node: ts.Node) => void): void {
  action(node);
  node.forEachChild((child) => visit(child, action));
}

function isTypeOnly(node: ts.ImportDeclaration | ts.ExportDeclaration): boolean {
  if (ts.isExportDeclaration(node)) return node.isTypeOnly;
  const clause = node.importClause;
  if (clause === undefined) return false;
  if (clause.isTypeOnly) return true;
  const named = clause.namedBindings;
  return (
    clause.name === undefined &&
    named !== undefined &&
    ts.isNamedImports(named) &&
    named.elements.every((element) => element.isTypeOnly)
  );
}

const imports = new WeakMap<Source, readonly Import[]>();

/** All imports of a file: static, re-exported, dynamic, `require` and types by `import('…')`. */
export function importsOf(source: Source): readonly Import[] {
  const known = imports.get(source) ?? findImports(source);
  imports.set(source, known);
  return known;
}

function findImports(source: Source): Import[] {
  const found: Import[] = [];
  const add = (specifier: string, typeOnly: boolean): void => {
    const relative = specifier.startsWith('.');
    const joined = path.posix.join(path.posix.dirname(source.path), specifier);
    found.push({ specifier, typeOnly, target: relative ? joined.replace(/\.js$/, '.ts') : undefined });
  };
  visit(parse(source), (node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
      const specifier = node.moduleSpecifier;
      if (specifier && ts.isStringLiteral(specifier)) add(specifier.text, isTypeOnly(node));
    } else if (ts.isImportTypeNode(node)) {
      const argument = node.argument;
      if (ts.isLiteralTypeNode(argument) && ts.isStringLiteral(argument.literal))
        add(argument.literal.text, true);
    } else if (ts.isCallExpression(node)) {
      const [argument] = node.arguments;
      const isImport = node.expression.kind === ts.SyntaxKind.ImportKeyword;
      const isRequire = ts.isIdentifier(node.expression) && /require/i.test(node.expression.text);
      if ((isImport || isRequire) && argument && ts.isStringLiteralLike(argument)) add(argument.text, false);
    }
  });
  return found;
}

/** Member of a sibling folder that a file belongs to: `vhd`, `reflink`; undefined for the shared files. */
function siblingOf(file: string, folder: string, nested: boolean): string | undefined {
  if (!file.startsWith(`${folder}/`)) return undefined;
  const rest = file.slice(folder.length + 1).split('/');
  if (nested) return rest.length > 1 ? rest[0] : undefined;
  // The files of one member begin with one word: lmdb-store.ts, lmdb-index.ts.
  return rest.length > 1 ? rest[0] : rest[0]?.replace(/\.ts$/, '').split('-')[0];
}

function siblingComplaint(file: string, target: string): string | undefined {
  for (const { folder, nested, shared, knownBy } of SIBLINGS) {
    const member = siblingOf(target, folder, nested);
    if (member === undefined || member === siblingOf(file, folder, nested)) continue;
    if (shared.includes(target) || knownBy.includes(file)) continue;
    return `${file}: imports ${target}, which only ${knownBy.join(' or ')} may know`;
  }
  return undefined;
}

function importComplaints(source: Source): string[] {
  const from = folderOf(source.path);
  const complaints: string[] = [];
  for (const { specifier, target, typeOnly } of importsOf(source)) {
    if (target === undefined) {
      const rule = CONFINED.find(({ library }) => library.test(specifier));
      if (rule && !rule.folders.includes(from) && !rule.files?.includes(source.path))
        complaints.push(
          `${source.path}: imports ${specifier}, which belongs in src/${rule.folders.join(', ')}`,
        );
      continue;
    }
    if (!target.startsWith('src/')) {
      complaints.push(`${source.path}: imports ${specifier} from outside src`);
      continue;
    }
    const to = folderOf(target);
    const allowed = MAY_IMPORT[from];
    if (allowed === undefined) complaints.push(`${source.path}: src/${from} is not in the import table`);
    else if (to !== from && !allowed.includes(to) && !(from === 'cli' && typeOnly && to !== ''))
      complaints.push(`${source.path}: src/${from} must not import ${target}`);
    const sibling = siblingComplaint(source.path, target);
    if (sibling) complaints.push(sibling);
  }
  return complaints;
}

function oneFileComplaints(sources: readonly Source[]): string[] {
  return ONE_FILE_ONLY.flatMap((library) => {
    const uses = ({ specifier, typeOnly }: Import): boolean => !typeOnly && library.test(specifier);
    const users = sources.filter((source) => importsOf(source).some(uses));
    if (users.length < 2) return [];
    return [`${library.source}: imported by ${users.map((user) => user.path).join(' and ')}; one file only`];
  });
}

/** Rules about who imports whom. */
export function checkImports(sources: readonly Source[]): string[] {
  return [...sources.flatMap(importComplaints), ...oneFileComplaints(sources)];
}

/** Import cycles, each named once by the path around it. Type-only imports do not count. */
export function checkCycles(sources: readonly Source[]): string[] {
  const edges = new Map<string, string[]>();
  for (const source of sources)
    edges.set(
      source.path,
      importsOf(source).flatMap((item) => (item.target && !item.typeOnly ? [item.target] : [])),
    );
  const complaints: string[] = [];
  const finished = new Set<string>();
  const trail: string[] = [];
  const walk = (file: string): void => {
    const at = trail.indexOf(file);
    if (at >= 0) {
      complaints.push(`import cycle: ${[...trail.slice(at), file].join(' -> ')}`);
      return;
    }
    if (finished.has(file)) return;
    trail.push(file);
    for (const next of edges.get(file) ?? []) walk(next);
    trail.pop();
    finished.add(file);
  };
  for (const file of edges.keys()) walk(file);
  return complaints;
}

/** Calls that belong to the edge of the program. Files of cli/ are free. */
export function checkBannedCalls(source: Source): string[] {
  if (folderOf(source.path) === 'cli') return [];
  const complaints = new Set<string>();
  visit(parse(source), (node) => {
    let text: string | undefined;
    if (ts.isPropertyAccessExpression(node)) {
      const object = node.expression.getText();
      text = object === 'console' ? 'console' : `${object}.${node.name.text}`;
    } else if (ts.isNewExpression(node) && (node.arguments?.length ?? 0) === 0) {
      text = `new ${node.expression.getText()}`;
    }
    const rule = BANNED.find(({ call }) => call === text);
    if (rule && !rule.except.includes(source.path))
      complaints.add(`${source.path}: uses ${rule.call}; use ${rule.instead}`);
  });
  return [...complaints];
}

function countLines(text: string): number {
  return text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
}

export function checkFileSize(source: Source): string[] {
  const lines = countLines(source.text);
  if (lines <= MAX_FILE_LINES) return [];
  return [`${source.path}: ${lines} lines, more than ${MAX_FILE_LINES}; find the seam and split it`];
}

export function checkFunctionSize(source: Source): string[] {
  const file = parse(source);
  const complaints: string[] = [];
  visit(file, (node) => {
    if (!ts.isFunctionLike(node) || !('body' in node) || node.body === undefined) return;
    const start = file.getLineAndCharacterOfPosition(node.getStart(file)).line;
    const lines = file.getLineAndCharacterOfPosition(node.end).line - start + 1;
    if (lines > MAX_FUNCTION_LINES)
      complaints.push(
        `${source.path}:${start + 1}: a function of ${lines} lines, more than ${MAX_FUNCTION_LINES}`,
      );
  });
  return complaints;
}

/** Each file says at its top what it is. */
export function checkOpeningComment(source: Source): string[] {
  const text = source.text.replace(/^#!.*\n/, '');
  if (/^\/\*[\s*]*[^\s*/]/.test(text)) return [];
  return [`${source.path}: does not open with a block comment that says what it is`];
}

/** A test left focused hides all others. */
export function checkFocusedTests(source: Source): string[] {
  const complaints: string[] = [];
  visit(parse(source), (node) => {
    if (!ts.isPropertyAccessExpression(node) || node.name.text !== 'only') return;
    if (/^(it|test|describe|bench|suite)\b/.test(node.expression.getText()))
      complaints.push(`${source.path}: a focused test (${node.getText()})`);
  });
  return complaints;
}

/**
 * Mentions of the machine that the text was written on: home folders, and the given places.
 * A place counts as a whole path component, so `/app` is not found in `src/app`.
 */
export function checkMachinePaths(source: Source, places: readonly string[]): string[] {
  const escaped = places.map((place) => place.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const own = escaped.map((place) => `(?<![\\w.~/-])${place}(?![\\w-])`);
  const homes = ['(?<![\\w.~/-])/home/(?!user\\b|USER\\b)\\w+/', '(?<![\\w.~/-])/Users/\\w+/'];
  const pattern = new RegExp([...own, ...homes].join('|'));
  return source.text.split('\n').flatMap((line, index) => {
    const match = pattern.exec(line);
    return match ? [`${source.path}:${index + 1}: mentions ${match[0]}, a path of one machine`] : [];
  });
}
