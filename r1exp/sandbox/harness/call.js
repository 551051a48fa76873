// Calls one function of program.js and prints what it returns as JSON. Runs in the sandbox of the submission.
// Standard input is {"name": ..., "args": [...]}; neither an expected value nor a verdict is here.
const fs = require('fs'), vm = require('vm');
const request = JSON.parse(fs.readFileSync(0, 'utf8'));
console.log = console.info = console.debug = console.error; // what the program prints is no result
Object.assign(globalThis, {require, module: {exports: {}}});
globalThis.exports = globalThis.module.exports;
vm.runInThisContext(fs.readFileSync(__dirname + '/program.js', 'utf8'), {filename: 'program.js'});
const named = (name) => vm.runInThisContext(`typeof ${name} === 'undefined' ? undefined : ${name}`);
const solution = named('Solution');
const owner = solution && solution.prototype && request.name in solution.prototype ? new solution() : globalThis;
const found = owner === globalThis ? named(request.name) || globalThis.module.exports[request.name] : owner[request.name];
Promise.resolve(found.apply(owner, request.args)).then((value) => {
  fs.writeSync(1, JSON.stringify(value === undefined ? null : value));
});
