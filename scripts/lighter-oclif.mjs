/**
 * A bundler plugin: oclif without what it does at every start and nothing here needs.
 *
 * Left out is what finds the commands of a program that has no manifest; this one always has. Should it
 * be called all the same, it throws. The spinner, which nothing here shows, is the plain one without its
 * collection of frames. Modules that are needed now and then run on first use. And oclif asks which
 * shell the user has, on Windows by starting PowerShell and waiting for it, for a field that nothing
 * reads: that is answered from the environment.
 *
 * What oclif no longer imports is not missed here: a new oclif at worst starts more slowly, and the
 * bounds in test/cli/startup.test.ts tell.
 */
import { sep } from 'node:path';

const LEFT_OUT = new Set(['tinyglobby', 'minimatch', 'lilconfig']);

const ON_FIRST_USE = new Set(['ejs', 'node:perf_hooks', 'node:readline']);

/** Modules of oclif's own, by the end of their path, that others take the place of. */
const REPLACED = new Map([
  ['/action/spinner', './action/simple'],
  ['/util/os', '\0light:system'],
]);

const PREFIX = '\0light:';

const leftOut = (name) => `
  const fail = () => { throw new Error(${JSON.stringify(`${name} is not part of the built command line`)}); };
  module.exports = { glob: fail, minimatch: fail, lilconfig: fail };`;

// '__esModule' is asked for when oclif imports the module, which must not load it.
const onFirstUse = (name) => `
  module.exports = new Proxy({}, {
    get: (_, key) => (key === '__esModule' ? undefined : require(${JSON.stringify(name)})[key]),
  });`;

const SYSTEM = `
  const os = require('node:os');
  const shell = () => process.env.SHELL ?? process.env.COMSPEC ?? '';
  exports.getHomeDir = () => os.homedir();
  exports.getPlatform = async () => os.platform();
  exports.getShell = async () => shell().split(/[\\\\/]/).at(-1) || 'unknown';`;

export function lighterOclif() {
  const oclif = ['@oclif', 'core', 'lib', ''].join(sep);
  return {
    name: 'lighter-oclif',
    async resolveId(id, importer) {
      if (importer?.includes(oclif) !== true) return null;
      if (LEFT_OUT.has(id) || ON_FIRST_USE.has(id)) return PREFIX + id;
      const place = [...REPLACED.keys()].find((end) => id.endsWith(end) && id.startsWith('.'));
      if (place === undefined) return null;
      const other = REPLACED.get(place);
      return other.startsWith(PREFIX) ? other : this.resolve(other, importer, { skipSelf: true });
    },
    load(id) {
      if (!id.startsWith(PREFIX)) return null;
      const name = id.slice(PREFIX.length);
      if (name === 'system') return SYSTEM;
      return LEFT_OUT.has(name) ? leftOut(name) : onFirstUse(name);
    },
  };
}
