// dockerode's attach and exec in its two forms: with an upgrade (`hijack`), and without one, where input follows the
// request on the same connection. Arguments: the module's folder, and an image.

const assert = require("node:assert");
const { PassThrough } = require("node:stream");
const [folder, Image] = process.argv.slice(2);
const Docker = require(folder);
const docker = new Docker();

// What came on either stream, at the end.
function collect(owner, stream) {
  const texts = ["", ""];
  const parts = texts.map((_, at) => new PassThrough().on("data", (bytes) => { texts[at] += bytes; }));
  owner.modem.demuxStream(stream, ...parts);
  return new Promise((resolve) => {
    stream.on("end", () => resolve(texts));
    stream.on("close", () => resolve(texts));
  });
}

async function attach(hijack) {
  const Cmd = ["sh", "-c", "echo hello; read word; echo got $word; echo bye >&2"];
  const container = await docker.createContainer({ Image, Cmd, OpenStdin: true, StdinOnce: true });
  const stream = await container.attach({ stream: true, hijack, stdin: true, stdout: true, stderr: true });
  const printed = collect(container, stream);
  await container.start();
  stream.write("typed\n");
  // G1, G3, G7
  assert.deepStrictEqual(await printed, ["hello\ngot typed\n", "bye\n"]);
  await container.remove({ force: true });
}

async function exec(container, hijack) {
  const Cmd = ["sh", "-c", "echo hello; read word; echo got $word; exit 3"];
  const exec = await container.exec({ Cmd, AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack, stdin: true });
  const printed = collect(exec, stream);
  stream.write("typed\n");
  assert.deepStrictEqual(await printed, ["hello\ngot typed\n", ""]);
  // G19
  assert.strictEqual((await exec.inspect()).ExitCode, 3);
}

async function main() {
  for (const hijack of [true, false]) {
    await attach(hijack);
  }
  const container = await docker.createContainer({ Image, Cmd: ["sleep", "600"] });
  await container.start();
  for (const hijack of [true, false]) {
    await exec(container, hijack);
  }
  const only = await container.exec({ Cmd: ["echo", "out"], AttachStdout: true });
  assert.deepStrictEqual(await collect(only, await only.start({})), ["out\n", ""]);
  await container.remove({ force: true });
  console.log("all done");
  // Its connections are kept for the next request, and would keep the program.
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
