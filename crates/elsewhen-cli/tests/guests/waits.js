// Waits, in every way that Node has; the conversation is that of waits.c.
const fs = require("fs");
const net = require("net");
const readline = require("readline");

const word = () => new Int32Array(new SharedArrayBuffer(4));

function must(condition, what) {
  if (!condition) throw new Error(what);
}

function interval(ms) {
  return new Promise((resolve) => {
    let ticks = 0;
    const timer = setInterval(() => {
      if (++ticks === 4) {
        clearInterval(timer);
        resolve();
      }
    }, ms / 4);
  });
}

function idle(ms) {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const client = net.connect(server.address().port, "127.0.0.1");
      client.setTimeout(ms, () => {
        client.destroy();
        server.close();
        resolve();
      });
    });
  });
}

const ways = {
  setTimeout: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  setInterval: interval,
  "timers/promises": (ms) => require("timers/promises").setTimeout(ms),
  "Atomics.wait": (ms) => must(Atomics.wait(word(), 0, 0, ms) === "timed-out", "Atomics.wait"),
  "AbortSignal.timeout": (ms) =>
    new Promise((resolve) => {
      // A signal alone does not keep the program running.
      const alive = setInterval(() => {}, 1 << 30);
      AbortSignal.timeout(ms).addEventListener("abort", () => resolve(clearInterval(alive)));
    }),
  "socket.setTimeout": idle,
};

async function main() {
  fs.writeSync(1, `ways ${Object.keys(ways).join(" ")}\n`);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ns] = line.split(" ");
    const monotonic = process.hrtime.bigint();
    const realtime = Date.now();
    await ways[name](Number(ns) / 1e6);
    const counted = BigInt(Date.now() - realtime) * 1000000n;
    fs.writeSync(1, `${ns} ${process.hrtime.bigint() - monotonic} ${counted}\n`);
  }
}

main();
