import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { editDistance, flagHint, unknownCommand } from '../../../src/cli/did-you-mean.js';

const COMMANDS = ['compare', 'convert', 'create', 'info', 'map', 'read'];

describe('editDistance', () => {
  test.each([
    ['', '', 0],
    ['info', 'info', 0],
    ['infos', 'info', 1],
    ['covnert', 'convert', 1],
    ['ma', 'map', 1],
    ['abc', 'xyz', 3],
    ['', 'abc', 3],
  ])('%s → %s is %i', (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
  });

  test('is symmetric, zero only for equal words, and at most the longer length', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
        const distance = editDistance(a, b);
        expect(distance).toBe(editDistance(b, a));
        expect(distance === 0).toBe(a === b);
        expect(distance).toBeLessThanOrEqual(Math.max(a.length, b.length));
      }),
    );
  });
});

describe('unknownCommand', () => {
  test.each([
    ['Convert-VHD', 'vhdkit convert`'],
    ['get-vhd', 'vhdkit info`'],
    ['New-VHD', 'vhdkit create`'],
    ['Gett-VHD', 'vhdkit info`'],
    ['dd', 'vhdkit read --offset --length`'],
    ['measure', '--dry-run'],
    ['covert', 'vhdkit convert`'],
    ['inof', 'vhdkit info`'],
    ['conv', 'vhdkit convert`'],
    ['diff', 'vhdkit compare`'],
  ])('%s leads to %s', (typed, hint) => {
    const error = unknownCommand(typed, COMMANDS);
    expect(error.message).toBe(`There is no command '${typed}'`);
    expect(error.hint).toContain(hint);
  });

  test.each([
    'migrate',
    'replicate',
    'Test-VHD',
    'Optimize-VHD',
    'Resize-VHD',
    'Merge-VHD',
    'commit',
    'migarte',
  ])('%s is not there yet', (typed) => {
    expect(unknownCommand(typed, COMMANDS).message).toContain('is not there yet');
  });

  test.each([
    [['tokn'], "There is no command 'tokn'", 'vhdkit token`'],
    [['token', 'rea'], "'token' has no command 'rea'", 'vhdkit token read`'],
    [['token', 'xyz'], "'token' has no command 'xyz'", 'There are: read, revoke.'],
    [['token'], "'token' takes a command", 'There are: read, revoke.'],
  ])('%j: a topic leads to its commands', ([typed = '', second], message, hint) => {
    const error = unknownCommand(typed, [...COMMANDS, 'token:read', 'token:revoke'], second);
    expect(error.message).toBe(message);
    expect(error.hint).toContain(hint);
  });

  test('a planned command is offered as soon as it exists', () => {
    expect(unknownCommand('Test-VHD', [...COMMANDS, 'check']).hint).toContain('vhdkit check`');
  });

  test('nothing near: points at the help', () => {
    expect(unknownCommand('frobnicate', COMMANDS).hint).toContain('--help');
  });
});

describe('flagHint', () => {
  test.each([
    ['--profile', '--for'],
    ['--output=json', '--json'],
    ['-o', '--type'],
    ['--WhatIf', '--dry-run'],
  ])('%s leads to %s', (flag, hint) => {
    expect(flagHint(flag)).toContain(hint);
  });

  test('unknown flags have none', () => {
    expect(flagHint('--frobnicate')).toBeUndefined();
  });
});
