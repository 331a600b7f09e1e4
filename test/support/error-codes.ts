/** The error codes that src/base/errors.ts declares, read from its source: a type leaves nothing at run time. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { ErrorCode } from '../../src/base/errors.js';
import { PROJECT_ROOT } from './run.js';

const source = readFileSync(path.join(PROJECT_ROOT, 'src/base/errors.ts'), 'utf8');
const declaration = /export type ErrorCode =(.*?)\n\n/s.exec(source)?.[1] ?? '';

export const errorCodes = [...declaration.matchAll(/^ {2}\| '([A-Z_]+)'/gm)].map(
  ([, code]) => code as ErrorCode,
);
