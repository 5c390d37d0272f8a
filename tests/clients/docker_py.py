"""docker-py's everyday loop. Arguments: an image, and a name for a container."""

import io
import sys
import tarfile

import docker

image, name = sys.argv[1:]
client = docker.from_env()
assert client.ping()
assert client.version()["Components"][0]["Name"] == "Engine"
# A9: the version that is spoken is the server's own.
assert client.api._version == client.version()["ApiVersion"]

# Output comes back only when the log driver reads json-file.
assert client.containers.run(image, "echo hi", remove=True) == b"hi\n"
try:
    client.containers.run(image, "sh -c 'echo no >&2; exit 3'", remove=True)
    raise SystemExit("exit code 3 was not noticed")
except docker.errors.ContainerError as error:
    assert error.exit_status == 3 and b"no" in error.stderr, error
try:
    client.containers.run(image, "no-such-program", remove=True)
    raise SystemExit("a missing program was not noticed")
except docker.errors.APIError as error:
    assert "executable file not found" in str(error), error

container = client.containers.run(
    image, "sh -c 'echo ready; exec sleep 600'", name=name, detach=True, labels={"kind": "test"}, environment={"A": "1"}
)
assert client.containers.get(name).id == container.id
assert container in client.containers.list(filters={"label": "kind=test", "name": name})
result = container.exec_run(["sh", "-c", "echo $A; echo err >&2; exit 4"], demux=True)
assert (result.exit_code, result.output) == (4, (b"1\n", b"err\n")), result
socket = container.exec_run("cat", stdin=True, socket=True).output
socket._sock.sendall(b"through\n")
assert socket.read(16) == b"\x01\x00\x00\x00\x00\x00\x00\x08through\n"
socket.close()
assert next(container.logs(stream=True)) == b"ready\n"

# Files both ways, and what the container is and does.
archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as writing:
    member = tarfile.TarInfo("folder/file")
    member.size = 5
    writing.addfile(member, io.BytesIO(b"bytes"))
assert container.put_archive("/tmp", archive.getvalue())
chunks, stat = container.get_archive("/tmp/folder/file")
assert (stat["name"], stat["size"], stat["mode"] & 0o777) == ("file", 5, 0o644), stat
with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as reading:
    assert reading.extractfile("file").read() == b"bytes"
try:
    container.get_archive("/no/such")
    raise SystemExit("a missing file was not noticed")
except docker.errors.NotFound:
    pass
assert {"Path": "/tmp/folder/file", "Kind": 1} in container.diff()
with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as reading:
    assert "tmp/folder/file" in reading.getnames()
top = container.top(ps_args="-eo pid,args")
assert top["Titles"] == ["PID", "COMMAND"] and top["Processes"][0][1] == "sleep 600", top
stats = container.stats(stream=False)
assert stats["cpu_stats"]["system_cpu_usage"] > stats["precpu_stats"]["system_cpu_usage"], stats
assert next(container.stats(decode=True))["name"] == "/" + name
assert name in [found["Names"][0][1:] for found in client.df()["Containers"]]
container.stop(timeout=0)
assert container.wait()["StatusCode"] == 137
container.reload()
assert container.status == "exited", container.status
container.remove()
try:
    client.containers.get(name)
    raise SystemExit("a removed container was found")
except docker.errors.NotFound:
    pass
assert image in [tag for found in client.images.list() for tag in found.tags]
print("all done")
