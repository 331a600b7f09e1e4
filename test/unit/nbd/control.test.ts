/** The control socket: routes, errors that travel, bad requests, bounds, and who may connect. */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { VhdkitError } from '../../../src/base/errors.js';
import { controlPath, controlRequest } from '../../../src/nbd/control-client.js';
import { type ControlRoute, findRoute } from '../../../src/nbd/control-routes.js';
import { ControlServer } from '../../../src/nbd/control-server.js';
import { isRoot, tool } from '../../support/requires.js';
import { run } from '../../support/run.js';
import { testFolder } from '../../support/tmp.js';

const routes: ControlRoute[] = [
  { method: 'GET', path: '/v1/things', handle: async () => ({ things: [1, 2] }) },
  {
    method: 'POST',
    path: '/v1/things/:name/parts',
    handle: async ({ params, body, query }) => ({ ...params, body, q: query.get('q') }),
  },
  {
    method: 'DELETE',
    path: '/v1/things/:name',
    async handle({ params }) {
      throw new VhdkitError('NO_SPACE', `no room for ${params.name}`, {
        operation: 'remove',
        context: { path: 'x', offset: 7 },
        hint: 'Make room.',
      });
    },
  },
  {
    method: 'POST',
    path: '/v1/wait',
    handle: ({ signal }) =>
      new Promise((_resolve, reject) => {
        const stop = (): void => reject(new VhdkitError('CANCELLED', 'stopped'));
        if (signal.aborted) stop();
        else signal.addEventListener('abort', stop);
      }),
  },
  {
    method: 'POST',
    path: '/v1/bug',
    handle: async () => {
      throw new TypeError('a mistake');
    },
  },
];

async function started(): Promise<{ socket: string; server: ControlServer }> {
  const socket = path.join(testFolder('control'), 'control.sock');
  const server = new ControlServer(routes);
  await server.listen(socket);
  onTestFinished(() => server.close());
  return { socket, server };
}

/** Sends bytes as they are; what comes back until the server closes or is quiet. */
function raw(socket: string, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const client = connect(socket);
    let answer = '';
    client.on('data', (chunk) => {
      answer += chunk.toString();
      client.end();
    });
    client.on('error', () => undefined);
    client.on('close', () => resolve(answer));
    client.write(bytes);
  });
}

describe('routes', () => {
  it('are found by method and path, with names decoded', () => {
    const found = findRoute(routes, 'POST', '/v1/things/a%2Fb%20c/parts');
    expect(found).toMatchObject({ params: { name: 'a/b c' } });
    expect(findRoute(routes, 'GET', '/v1/things/a/parts')).toBe('method');
    expect(findRoute(routes, 'POST', '/v1/things//parts')).toBeUndefined();
    expect(findRoute(routes, 'GET', '/v1/things/')).toBeUndefined();
    expect(() => findRoute(routes, 'GET', '/v1/%E0%A4%A')).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });

  it('are named by paths that take any name', () => {
    expect(controlPath('v1', 'things', 'a/b?c')).toBe('/v1/things/a%2Fb%3Fc');
  });
});

describe('control socket', () => {
  it('answers with JSON, names with slashes included', async () => {
    const { socket } = await started();
    expect(await controlRequest(socket, { method: 'GET', path: '/v1/things' })).toEqual({ things: [1, 2] });
    const answer = await controlRequest(socket, {
      method: 'POST',
      path: `${controlPath('v1', 'things', 'a/b', 'parts')}?q=1`,
      body: { size: 3 },
    });
    expect(answer).toEqual({ name: 'a/b', body: { size: 3 }, q: '1' });
  });

  it('hands errors over as they are', async () => {
    const { socket } = await started();
    await expect(controlRequest(socket, { method: 'DELETE', path: '/v1/things/x' })).rejects.toMatchObject({
      code: 'NO_SPACE',
      message: 'no room for x',
      operation: 'remove',
      context: { path: 'x', offset: 7 },
      hint: 'Make room.',
    });
    await expect(controlRequest(socket, { method: 'POST', path: '/v1/bug' })).rejects.toMatchObject({
      code: 'IO_FAILED',
      message: 'a mistake',
    });
    await expect(controlRequest(socket, { method: 'GET', path: '/v2' })).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(controlRequest(socket, { method: 'PUT', path: '/v1/things' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('refuses what is malformed or too long, and goes on', async () => {
    const { socket } = await started();
    const head = 'POST /v1/things/a/parts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
    expect(await raw(socket, `${head}Content-Length: 4\r\n\r\n{"a"`)).toContain('400 ');
    expect(await raw(socket, `${head}Content-Length: 99999999\r\n\r\n`)).toContain('413 ');
    const endless = `${head}Transfer-Encoding: chunked\r\n\r\n${`1000\r\n${'x'.repeat(4096)}\r\n`.repeat(20)}`;
    expect(await raw(socket, endless)).toContain('413 ');
    expect(await raw(socket, Buffer.from([0, 1, 2, 255, 10, 10]))).toContain('400 ');
    expect(await raw(socket, `GET /${'x'.repeat(40_000)} HTTP/1.1\r\nHost: x\r\n\r\n`)).toContain('4');
    expect(await raw(socket, 'GET /v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n')).toContain('400 ');
    expect(await controlRequest(socket, { method: 'GET', path: '/v1/things' })).toEqual({ things: [1, 2] });
  });

  it('is for its owner alone, from the start', async () => {
    const { socket } = await started();
    expect(lstatSync(socket).mode & 0o777).toBe(0o600);
    expect(readdirSync(path.dirname(socket))).toEqual(['control.sock']);
  });

  it.skipIf(!isRoot || !tool('setpriv'))('refuses another user', async () => {
    // A folder that anybody may enter: it is the socket's mode that keeps others out.
    const folder = mkdtempSync(path.join(os.tmpdir(), 'vhdkit-control-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    chmodSync(folder, 0o755);
    const socket = path.join(folder, 'control.sock');
    const server = new ControlServer(routes);
    await server.listen(socket);
    onTestFinished(() => server.close());
    const script = `require('node:net').connect(${JSON.stringify(socket)}).on('error', (e) => console.log(e.code))
      .on('connect', () => { console.log('connected'); process.exit(); });`;
    const asOther = async (): Promise<string> => {
      const args = ['--reuid=65534', '--clear-groups', process.execPath, '-e', script];
      return (await run('setpriv', args)).stdout.toString().trim();
    };
    expect(await asOther()).toBe('EACCES');
    chmodSync(socket, 0o666);
    expect(await asOther()).toBe('connected');
  });

  it('aborts what is under way when the client goes, or the server closes', async () => {
    const { socket, server } = await started();
    const gone = new AbortController();
    const asked = controlRequest(socket, { method: 'POST', path: '/v1/wait', signal: gone.signal });
    setTimeout(() => gone.abort(), 30);
    await expect(asked).rejects.toMatchObject({ code: 'CANCELLED' });
    const left = controlRequest(socket, { method: 'POST', path: '/v1/wait' }).catch((error) => error.code);
    await new Promise((resolve) => setTimeout(resolve, 30));
    await server.close();
    expect(await left).toBe('CANCELLED');
    expect(existsSync(socket)).toBe(false);
  });

  it('replaces a socket that was left behind, and nothing else', async () => {
    const { socket } = await started();
    await expect(new ControlServer([]).listen(socket)).rejects.toMatchObject({ code: 'IN_USE' });
    const folder = testFolder('left');
    const left = path.join(folder, 'left.sock');
    const script = `require('node:net').createServer().listen(${JSON.stringify(left)}, () => process.kill(process.pid, 'SIGKILL'));`;
    await run(process.execPath, ['-e', script]);
    expect(existsSync(left)).toBe(true);
    const server = new ControlServer(routes);
    await server.listen(left);
    expect(await controlRequest(left, { method: 'GET', path: '/v1/things' })).toEqual({ things: [1, 2] });
    await server.close();
    const file = path.join(folder, 'file');
    writeFileSync(file, 'mine');
    await expect(new ControlServer([]).listen(file)).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    const long = path.join(folder, 'x'.repeat(90));
    mkdirSync(long);
    await expect(new ControlServer([]).listen(path.join(long, 's'))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    expect(readdirSync(long)).toEqual([]);
  });

  it('says where no server is', async () => {
    const folder = testFolder('none');
    const nobody = { method: 'GET', path: '/v1/things' } as const;
    await expect(controlRequest(path.join(folder, 'x'), nobody)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
