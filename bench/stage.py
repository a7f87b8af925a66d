"""What every benchmark stands on: the servers, a topic, CPU seconds of processes, one database and folder each."""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree

import psycopg

HERE = pathlib.Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
TOPIC = "bench"
# Long enough for the slowest peer on two cores; a benchmark that hangs must end.
LIMIT_S = 1200


def say(text):
    print(text, file=sys.stderr, flush=True)


def processes():
    """pid → (parent, CPU seconds, CPU seconds of ended children)."""
    found = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
            found[int(folder.name)] = (int(fields[1]), own / TICKS, children / TICKS)
    return found


def cpu_of_tree(root):
    """CPU seconds of a process, those that it started, and those of them that have ended."""
    table = processes()
    tree, grown = {root}, True
    while grown:
        more = {pid for pid, (parent, _, _) in table.items() if parent in tree} - tree
        tree |= more
        grown = bool(more)
    return sum(table[pid][1] + table[pid][2] for pid in tree if pid in table)


def cpu_until(process, done=lambda: False, log=""):
    """CPU seconds of a process's tree, looked at until the process ends, or its work is done."""
    cpu, deadline = 0.0, time.monotonic() + LIMIT_S
    while process.poll() is None:
        cpu = max(cpu, cpu_of_tree(process.pid))
        if done():
            break
        if time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"not within {LIMIT_S} s: {process.args[:3]} {log}")
        time.sleep(0.02)
    return cpu


def memory_mib(pid, figure):
    """`VmRSS` or `VmHWM` of a process, in MiB."""
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(figure)) // 1024
    return 0


def peak_of_tree(root):
    """The most memory of the process ever, in MiB."""
    return memory_mib(root, "VmHWM")


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Stage:
    """The servers of one run."""

    def __init__(self, events):
        self.events = events
        self.servers = pathlib.Path(os.environ["ANABRANCH_SERVERS"])
        self.brokers = os.environ["ANABRANCH_KAFKA__BROKERS"]
        self.hdfs = os.environ["ANABRANCH_WAREHOUSE__URL"].rsplit("/", 1)[0]
        self.postgres = os.environ["ANABRANCH_POSTGRES__URL"].rsplit("/", 1)[0]
        self.bin = pathlib.Path(os.environ["CARGO_TARGET_DIR"]) / "release"
        self.jars = pathlib.Path(os.environ["ANABRANCH_BENCH_JARS"])
        self.logs = self.servers / "bench"
        self.logs.mkdir(exist_ok=True)
        self.number = 0
        self.topics = {}

    def servers_cpu(self):
        """server → CPU seconds so far."""
        return {file.stem: cpu_of_tree(int(file.read_text())) for file in sorted(self.servers.glob("*.pid"))}

    def webhdfs(self):
        """Where the NameNode answers over HTTP."""
        settings = xml.etree.ElementTree.parse(self.servers / "hadoop" / "hdfs-site.xml").getroot()
        web = next(entry.findtext("value") for entry in settings if entry.findtext("name") == "dfs.namenode.http-address")
        return f"http://{web}/webhdfs/v1"

    def connect(self, database="postgres"):
        return psycopg.connect(f"{self.postgres}/{database}", autocommit=True)

    def topic(self, events=None, name=None):
        """A topic of 8 partitions with so many events, made once; no broken ones, so that peers need not care."""
        events = events or self.events
        name = name or f"{TOPIC}-{os.getpid()}-{events}"
        if name not in self.topics:
            self.simulate(name, count=events)
            self.topics[name] = events
        return name

    def simulate(self, topic, count, *more):
        command = [self.bin / "anabranch", "simulate", "server-status", "--topic", topic, "--rate", "0", "--count", str(count), "--malformed", "0", *more]
        subprocess.run(command, check=True, capture_output=True)

    def scene(self, topic, views=1, **settings):
        self.number += 1
        return Scene(self, f"bench_{os.getpid()}_{self.number}", topic, views, settings)

    @contextlib.contextmanager
    def measured(self, result):
        """Adds wall seconds and the servers' CPU seconds of what runs inside."""
        before, began = self.servers_cpu(), time.monotonic()
        yield
        result["seconds"] = round(time.monotonic() - began, 2)
        after = self.servers_cpu()
        result["servers_cpu_seconds"] = {name: round(after[name] - cpu, 2) for name, cpu in before.items() if name in after}


class Scene:
    """One database, one warehouse folder, one pipeline."""

    def __init__(self, stage, name, topic, views, settings):
        self.stage, self.name = stage, name
        with stage.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        folder = stage.logs / name
        folder.mkdir()
        text = (HERE.parent / "pipelines" / "server_status.sql").read_text()
        text = text.replace("topic = 'server-live-status'", f"topic = '{topic}'")
        first, second = text.split("-- Per kind of server")
        many = "\nCREATE MATERIALIZED VIEW by_event AS\nSELECT event_id, count(*) AS messages\nFROM server_status\nGROUP BY 1;\n"
        (folder / "pipeline.sql").write_text({1: first, 2: text, "many": first + many}.get(views, views))
        self.folder = folder
        self.environment = {
            **os.environ,
            "ANABRANCH_POSTGRES__URL": f"{stage.postgres}/{name}",
            "ANABRANCH_WAREHOUSE__URL": f"{stage.hdfs}/{name}",
            "ANABRANCH_PIPELINES__DIR": str(folder),
            **{f"ANABRANCH_{key.upper()}": str(value) for key, value in settings.items()},
        }
        self.run("apply")

    def command(self, *arguments):
        return [str(self.stage.bin / "anabranch"), *arguments]

    def run(self, *arguments):
        done = subprocess.run(self.command(*arguments), env=self.environment, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")
        return done.stdout

    @contextlib.contextmanager
    def running(self, *arguments):
        with open(self.folder / f"{arguments[0]}.log", "a") as log:
            process = subprocess.Popen(self.command(*arguments), env=self.environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def query(self, sql):
        with self.stage.connect(self.name) as connection:
            return connection.execute(sql).fetchone()

    def until(self, sql, process=None, wanted=None):
        """Waits until a query gives `wanted`, or true."""
        deadline = time.monotonic() + LIMIT_S
        with self.stage.connect(self.name) as connection:
            while True:
                row = connection.execute(sql).fetchone()
                if row and (row[0] if wanted is None else row[0] == wanted):
                    return
                if process is not None and process.poll() is not None:
                    raise RuntimeError(f"{process.args[1]} has ended; see {self.folder}")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not within {LIMIT_S} s: {sql}")
                time.sleep(0.05)
