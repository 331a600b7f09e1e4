// Converts in a process of its own, to be killed: `node convert-child.mjs '{"source":…,"target":…}'`.
// Prints a line when the work begins, so that the killer can aim.
const { convert, systemHost } = await import('../../dist/index.js');
const options = JSON.parse(process.argv[2]);
process.stdout.write('started\n');
await convert(systemHost(), options);
process.stdout.write('done\n');
