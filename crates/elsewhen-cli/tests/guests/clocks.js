// Prints what Node's clocks read: lines `CLOCK RESOLUTION_NS VALUE_NS`.
console.log(`0 1000000 ${Date.now()}000000`);
console.log(`1 1 ${process.hrtime.bigint()}`);
