// Sends all back until it gets END, with zeromq.js:
// node echo.mjs MODULES Router|Dealer bind|connect ENDPOINT INTERVAL TIMEOUT

import { createRequire } from "node:module";

const [modules, kind, how, endpoint, interval, timeout] = process.argv.slice(2);
const zmq = createRequire(`${modules}/`)("zeromq");
const socket = new zmq[kind]({
  linger: 0,
  heartbeatInterval: Number(interval),
  heartbeatTimeout: Number(timeout),
  heartbeatTimeToLive: Number(timeout),
});
if (how === "bind") await socket.bind(endpoint);
else {
  socket.connect(endpoint);
  await socket.send("HELLO");
}
console.log(JSON.stringify(socket.lastEndpoint ?? endpoint));
for await (const frames of socket) {
  if (frames.at(-1).toString() === "END") break;
  await socket.send(frames);
}
